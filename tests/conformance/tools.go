// Copyright (c) 2026, The pvecri authors
// GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
// SPDX-License-Identifier: GPL-3.0-or-later

//go:build tools

// Package conformance names what critest's test binary is made of, so that go.mod and go.sum hold all
// of it.  Nothing here is compiled: scripts/lib/cri_tools.sh builds the programs of the module itself.
// For a newer release: go get sigs.k8s.io/cri-tools@latest && go mod tidy
package conformance

import (
	_ "github.com/onsi/ginkgo/v2"
	_ "github.com/onsi/gomega"
	_ "sigs.k8s.io/cri-tools/pkg/benchmark"
	_ "sigs.k8s.io/cri-tools/pkg/validate"
)
