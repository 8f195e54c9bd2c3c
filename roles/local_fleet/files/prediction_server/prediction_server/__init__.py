# SPDX-FileCopyrightText: The modelfleet maintainers
# SPDX-License-Identifier: GPL-3.0-or-later
"""A prediction server with TF Serving's flags and interfaces, for places where its image cannot be pulled."""

from __future__ import annotations
