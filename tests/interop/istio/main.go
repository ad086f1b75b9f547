// Command istio lets Weft's tests talk to Istio's own code: its HBONE client and server, and its discovery messages.
package main

import (
	"fmt"
	"os"

	istiolog "istio.io/istio/pkg/log"
)

const usage = `usage:
  istio serve -cert FILE -key FILE -roots FILE -peer SPIFFE_ID
      serves HBONE with Istio's server; prints the address
  istio dial -cert FILE -key FILE -roots FILE -peer SPIFFE_ID -proxy ADDRESS -to AUTHORITY
      listens for TCP and sends each connection through Istio's HBONE client; prints the address
  istio encode NAME
      prints the message NAME (workload, service, authorization) as Istio encodes it, in hexadecimal
  istio decode TYPE
      reads hexadecimal from the standard input, decodes it as Istio's TYPE (address, authorization), prints JSON`

func main() {
	// Its words about every tunnel would follow the address on the standard output.
	for _, scope := range istiolog.Scopes() {
		scope.SetOutputLevel(istiolog.NoneLevel)
	}
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if len(args) == 0 {
		return fmt.Errorf("%s", usage)
	}
	switch args[0] {
	case "serve":
		return serve(args[1:])
	case "dial":
		return dial(args[1:])
	case "encode":
		return encode(args[1:])
	case "decode":
		return decode(args[1:])
	}
	return fmt.Errorf("%s", usage)
}
