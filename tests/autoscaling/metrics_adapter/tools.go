//go:build tools

// What go.mod pins beside the adapter itself.
package main

import _ "github.com/prometheus/prometheus/cmd/prometheus"
