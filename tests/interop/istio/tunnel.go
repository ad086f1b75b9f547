package main

import (
	"context"
	"crypto/tls"
	"flag"
	"fmt"
	"io"
	"net"
	"os"

	"istio.io/istio/pkg/hbone"
)

// serve accepts tunnels with Istio's HBONE server, which connects to the authority that each of them asks for.
func serve(args []string) error {
	var m mtls
	f := flag.NewFlagSet("serve", flag.ContinueOnError)
	m.flags(f)
	if err := f.Parse(args); err != nil {
		return err
	}
	config, err := m.config()
	if err != nil {
		return err
	}
	listener, err := tls.Listen("tcp", "127.0.0.1:0", config)
	if err != nil {
		return err
	}
	fmt.Println(listener.Addr())
	return hbone.NewServer().Serve(listener)
}

// dial sends TCP connections through Istio's HBONE client.
func dial(args []string) error {
	var m mtls
	f := flag.NewFlagSet("dial", flag.ContinueOnError)
	m.flags(f)
	proxy := f.String("proxy", "", "the HBONE server")
	to := f.String("to", "", "the authority to ask for")
	if err := f.Parse(args); err != nil {
		return err
	}
	config, err := m.config()
	if err != nil {
		return err
	}
	dialer := hbone.NewDialer(hbone.Config{ProxyAddress: *proxy, TLS: config})
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	fmt.Println(listener.Addr())
	for {
		conn, err := listener.Accept()
		if err != nil {
			return err
		}
		go forward(dialer, conn, *to)
	}
}

// forward joins an application's connection to a tunnel. Istio's client gives a pipe that cannot be closed by halves, so
// the end of either direction ends both.
func forward(dialer hbone.Dialer, app net.Conn, to string) {
	defer app.Close()
	tunnel, err := dialer.DialContext(context.Background(), "tcp", to)
	if err != nil {
		fmt.Fprintln(os.Stderr, "dial:", err)
		return
	}
	defer tunnel.Close()
	done := make(chan struct{}, 2)
	for _, way := range [][2]net.Conn{{tunnel, app}, {app, tunnel}} {
		go func() {
			_, _ = io.Copy(way[0], way[1])
			done <- struct{}{}
		}()
	}
	<-done
}
