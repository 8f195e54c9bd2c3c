//go:build tools

// The upstream command that is built: naming it here keeps `go mod tidy` from dropping it. Its own module, because what it
// asks for would change what Kubernetes is built of in files/node.
package tools

import _ "sigs.k8s.io/metrics-server/cmd/metrics-server"
