// Copyright (c) 2026, The pvecri authors
// GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
// SPDX-License-Identifier: GPL-3.0-or-later

// Command kubelet stands in for kubelet and kubectl: it puts the proxy of the one in front of a streaming
// URL and drives it with the client library of the other.
//
//	kubelet exec [-proxy] [-transport spdy|websocket] [-protocols v5,v4] [-stdin] [-tty] [-sizes 80x24,100x40] URL
//	kubelet forward [-proxy] [-transport spdy|websocket] URL [LOCAL:]REMOTE...
//	kubelet proxy URL
//	kubelet parse FILE...
//
// exec ends with the exit code of the command, or with 125 and the error on standard error; forward prints
// where it listens and goes on until its standard input ends; proxy prints its URL and does the same.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/util/proxy"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/portforward"
	"k8s.io/client-go/tools/remotecommand"
	"k8s.io/client-go/transport/spdy"
	"k8s.io/client-go/util/exec"
	"k8s.io/streaming/pkg/httpstream"
)

const otherFailure = 125

type options struct {
	isProxied bool
	transport string
	protocols string
	stdin     bool
	tty       bool
	stderr    bool
	sizes     string
	config    rest.Config
}

func main() {
	if len(os.Args) < 2 {
		fail(errors.New("exec, forward, proxy or parse?"))
	}
	if os.Args[1] == "parse" {
		parse(os.Args[2:])
		return
	}
	var given options
	flags := flag.NewFlagSet(os.Args[1], flag.ExitOnError)
	flags.BoolVar(&given.isProxied, "proxy", false, "go through kubelet's proxy")
	flags.StringVar(&given.transport, "transport", "spdy", "spdy or websocket")
	flags.StringVar(&given.protocols, "protocols", "", "versions of channel.k8s.io, the best first; empty: all")
	flags.BoolVar(&given.stdin, "stdin", false, "pass standard input on")
	flags.BoolVar(&given.tty, "tty", false, "with a terminal")
	flags.StringVar(&given.sizes, "sizes", "", "sizes of the terminal, one after the other")
	flags.StringVar(&given.config.CAFile, "ca", "", "authority of the server's certificate")
	flags.StringVar(&given.config.CertFile, "cert", "", "certificate of this client")
	flags.StringVar(&given.config.KeyFile, "key", "", "its key")
	_ = flags.Parse(os.Args[2:])
	if flags.NArg() < 1 {
		fail(errors.New("a URL is missing"))
	}
	location, err := url.Parse(flags.Arg(0))
	if err != nil {
		fail(err)
	}
	if given.isProxied || os.Args[1] == "proxy" {
		location = proxied(location)
	}
	switch os.Args[1] {
	case "exec":
		given.stderr = !given.tty
		run(location, given)
	case "forward":
		forward(location, given, flags.Args()[1:])
	case "proxy":
		fmt.Println(location)
		_, _ = io.Copy(io.Discard, os.Stdin)
	default:
		fail(fmt.Errorf("%s is none of exec, forward, proxy, parse", os.Args[1]))
	}
}

// responder answers as kubelet does what its proxy cannot do.
type responder struct{}

func (responder) Error(answer http.ResponseWriter, _ *http.Request, err error) {
	fmt.Fprintln(os.Stderr, "proxy:", err)
	http.Error(answer, err.Error(), http.StatusInternalServerError)
}

// proxied returns the URL of a server that hands requests on to a location, as kubelet hands on those of
// the API server.
func proxied(location *url.URL) *url.URL {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		fail(err)
	}
	handler := proxy.NewUpgradeAwareHandler(location, nil, false, true, responder{})
	server := &http.Server{Handler: handler}
	go func() { _ = server.Serve(listener) }()
	return &url.URL{Scheme: "http", Host: listener.Addr().String(), Path: "/exec/default/pod/container"}
}

func executor(location *url.URL, given options) (remotecommand.Executor, error) {
	var names []string
	for _, version := range strings.FieldsFunc(given.protocols, func(r rune) bool { return r == ',' }) {
		if version == "v1" {
			names = append(names, "channel.k8s.io")
		} else {
			names = append(names, version+".channel.k8s.io")
		}
	}
	if given.transport == "websocket" {
		if names == nil {
			return remotecommand.NewWebSocketExecutor(&given.config, "GET", location.String())
		}
		return remotecommand.NewWebSocketExecutorForProtocols(&given.config, "GET", location.String(), names...)
	}
	if names == nil {
		return remotecommand.NewSPDYExecutor(&given.config, "POST", location)
	}
	transport, upgrader, err := spdy.RoundTripperFor(&given.config)
	if err != nil {
		return nil, err
	}
	return remotecommand.NewSPDYExecutorForProtocols(transport, upgrader, "POST", location, names...)
}

// sizes are told one after the other: the first at once, as kubectl does, and with time to see each.
type sizes struct {
	left  []remotecommand.TerminalSize
	pause time.Duration
}

func (queue *sizes) Next() *remotecommand.TerminalSize {
	if len(queue.left) == 0 {
		return nil
	}
	next := queue.left[0]
	queue.left = queue.left[1:]
	time.Sleep(queue.pause)
	queue.pause = 100 * time.Millisecond
	return &next
}

func sizesOf(text string) *sizes {
	queue := &sizes{}
	for _, size := range strings.FieldsFunc(text, func(r rune) bool { return r == ',' }) {
		width, height, _ := strings.Cut(size, "x")
		columns, _ := strconv.ParseUint(width, 10, 16)
		rows, _ := strconv.ParseUint(height, 10, 16)
		queue.left = append(queue.left, remotecommand.TerminalSize{Width: uint16(columns), Height: uint16(rows)})
	}
	return queue
}

func run(location *url.URL, given options) {
	client, err := executor(location, given)
	if err != nil {
		fail(err)
	}
	streams := remotecommand.StreamOptions{Stdout: os.Stdout, Tty: given.tty}
	if given.stdin {
		streams.Stdin = os.Stdin
	}
	if given.stderr {
		streams.Stderr = os.Stderr
	}
	if given.tty {
		streams.TerminalSizeQueue = sizesOf(given.sizes)
	}
	err = client.StreamWithContext(context.Background(), streams)
	var status exec.CodeExitError
	switch {
	case errors.As(err, &status):
		os.Exit(status.Code)
	case err != nil:
		fail(err)
	}
}

func dialer(location *url.URL, given options) (httpstream.Dialer, error) {
	if given.transport == "websocket" {
		return portforward.NewSPDYOverWebsocketDialerForStreaming(location, &given.config)
	}
	transport, upgrader, err := spdy.RoundTripperFor(&given.config)
	if err != nil {
		return nil, err
	}
	return spdy.NewDialerForStreaming(upgrader, &http.Client{Transport: transport}, "POST", location), nil
}

func forward(location *url.URL, given options, ports []string) {
	dial, err := dialer(location, given)
	if err != nil {
		fail(err)
	}
	stop := make(chan struct{})
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		close(stop)
	}()
	forwarder, err := portforward.NewOnAddressesForStreaming(
		dial, []string{"127.0.0.1"}, ports, stop, make(chan struct{}), os.Stdout, os.Stderr)
	if err != nil {
		fail(err)
	}
	if err := forwarder.ForwardPorts(); err != nil {
		fail(err)
	}
}

func fail(err error) {
	fmt.Fprintln(os.Stderr, "error:", err)
	os.Exit(otherFailure)
}
