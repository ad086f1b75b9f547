package main

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"flag"
	"fmt"
	"os"
	"slices"
)

// mtls is what one side of a tunnel shows, and whom it wants to see on the other.
type mtls struct {
	cert, key, roots, peer string
}

func (m *mtls) flags(f *flag.FlagSet) {
	f.StringVar(&m.cert, "cert", "", "PEM file: leaf and intermediates")
	f.StringVar(&m.key, "key", "", "PEM file: the leaf's key")
	f.StringVar(&m.roots, "roots", "", "PEM file: roots to trust")
	f.StringVar(&m.peer, "peer", "", "the SPIFFE ID that the other side must have")
}

// config is ztunnel's profile: TLS 1.3 with certificates on both sides, ALPN h2, SPIFFE IDs in place of host names.
func (m *mtls) config() (*tls.Config, error) {
	cert, err := tls.LoadX509KeyPair(m.cert, m.key)
	if err != nil {
		return nil, err
	}
	pem, err := os.ReadFile(m.roots)
	if err != nil {
		return nil, err
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(pem) {
		return nil, errors.New("no root certificate in " + m.roots)
	}
	return &tls.Config{
		Certificates: []tls.Certificate{cert},
		MinVersion:   tls.VersionTLS13,
		NextProtos:   []string{"h2"},
		// A server asks for a certificate and leaves its verification, as a client does, to the function below.
		ClientAuth:         tls.RequireAnyClientCert,
		InsecureSkipVerify: true,
		VerifyConnection: func(state tls.ConnectionState) error {
			return verify(state, roots, m.peer)
		},
	}, nil
}

// verify checks the peer's chain against the roots, and its SPIFFE ID.
func verify(state tls.ConnectionState, roots *x509.CertPool, want string) error {
	intermediates := x509.NewCertPool()
	for _, cert := range state.PeerCertificates[1:] {
		intermediates.AddCert(cert)
	}
	leaf := state.PeerCertificates[0]
	_, err := leaf.Verify(x509.VerifyOptions{
		Roots:         roots,
		Intermediates: intermediates,
		KeyUsages:     []x509.ExtKeyUsage{x509.ExtKeyUsageAny},
	})
	if err != nil {
		return err
	}
	var ids []string
	for _, uri := range leaf.URIs {
		ids = append(ids, uri.String())
	}
	if !slices.Equal(ids, []string{want}) {
		return fmt.Errorf("the peer is %v, not %s", ids, want)
	}
	return nil
}
