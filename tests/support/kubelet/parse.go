// Copyright (c) 2026, The pvecri authors
// GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
// SPDX-License-Identifier: GPL-3.0-or-later

package main

import (
	"bytes"
	"fmt"
	"os"

	nodev1 "k8s.io/api/node/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	kubeletv1beta1 "k8s.io/kubelet/config/v1beta1"
	"sigs.k8s.io/yaml"
)

// parse reads files as kubelet and the API server do, but refuses fields that they do not know, and prints
// what it has understood.
func parse(paths []string) {
	for _, path := range paths {
		data, err := os.ReadFile(path)
		if err != nil {
			fail(err)
		}
		for _, document := range bytes.Split(data, []byte("\n---\n")) {
			understood, err := decode(document)
			if err != nil {
				fail(fmt.Errorf("%s: %w", path, err))
			}
			fmt.Printf("---\n%s", understood)
		}
	}
}

func decode(document []byte) ([]byte, error) {
	var kind metav1.TypeMeta
	if err := yaml.Unmarshal(document, &kind); err != nil {
		return nil, err
	}
	var into any
	switch kind {
	case metav1.TypeMeta{APIVersion: "kubelet.config.k8s.io/v1beta1", Kind: "KubeletConfiguration"}:
		into = &kubeletv1beta1.KubeletConfiguration{}
	case metav1.TypeMeta{APIVersion: "node.k8s.io/v1", Kind: "RuntimeClass"}:
		into = &nodev1.RuntimeClass{}
	case metav1.TypeMeta{}:
		return nil, nil
	default:
		return nil, fmt.Errorf("%s %s is neither kubelet's configuration nor a RuntimeClass", kind.APIVersion, kind.Kind)
	}
	if err := yaml.UnmarshalStrict(document, into); err != nil {
		return nil, err
	}
	return yaml.Marshal(into)
}
