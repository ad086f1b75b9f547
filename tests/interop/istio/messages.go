package main

import (
	"encoding/hex"
	"fmt"
	"io"
	"net/netip"
	"os"
	"strings"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/emptypb"
	"google.golang.org/protobuf/types/known/wrapperspb"
	"istio.io/istio/pkg/workloadapi"
	"istio.io/istio/pkg/workloadapi/security"
)

func encode(args []string) error {
	if len(args) != 1 {
		return fmt.Errorf("%s", usage)
	}
	var message proto.Message
	switch args[0] {
	case "workload":
		message = &workloadapi.Address{Type: &workloadapi.Address_Workload{Workload: workload()}}
	case "service":
		message = &workloadapi.Address{Type: &workloadapi.Address_Service{Service: service()}}
	case "authorization":
		message = authorization()
	default:
		return fmt.Errorf("%s", usage)
	}
	bytes, err := proto.MarshalOptions{Deterministic: true}.Marshal(message)
	if err != nil {
		return err
	}
	fmt.Println(hex.EncodeToString(bytes))
	return nil
}

func decode(args []string) error {
	messages := map[string]proto.Message{
		"address":       &workloadapi.Address{},
		"authorization": &security.Authorization{},
	}
	if len(args) != 1 || messages[args[0]] == nil {
		return fmt.Errorf("%s", usage)
	}
	text, err := io.ReadAll(os.Stdin)
	if err != nil {
		return err
	}
	bytes, err := hex.DecodeString(strings.TrimSpace(string(text)))
	if err != nil {
		return err
	}
	message := messages[args[0]]
	if err := proto.Unmarshal(bytes, message); err != nil {
		return err
	}
	if unknown := message.ProtoReflect().GetUnknown(); len(unknown) > 0 {
		return fmt.Errorf("Istio does not know the fields %x", unknown)
	}
	fmt.Println(protojson.Format(message))
	return nil
}

func bytesOf(ip string) []byte {
	return netip.MustParseAddr(ip).AsSlice()
}

func address(network, ip string) *workloadapi.NetworkAddress {
	return &workloadapi.NetworkAddress{Network: network, Address: bytesOf(ip)}
}

func behind(network, ip string, port uint32) *workloadapi.GatewayAddress {
	return &workloadapi.GatewayAddress{
		Destination:   &workloadapi.GatewayAddress_Address{Address: address(network, ip)},
		HboneMtlsPort: port,
	}
}

func named(namespace, hostname string, port uint32) *workloadapi.GatewayAddress {
	return &workloadapi.GatewayAddress{
		Destination: &workloadapi.GatewayAddress_Hostname{
			Hostname: &workloadapi.NamespacedHostname{Namespace: namespace, Hostname: hostname},
		},
		HboneMtlsPort: port,
	}
}

// workload fills every field, also those that Weft skips.
func workload() *workloadapi.Workload {
	return &workloadapi.Workload{
		Uid:               "Kubernetes//Pod/shop/web-0",
		Name:              "web-0",
		Namespace:         "shop",
		Addresses:         [][]byte{bytesOf("10.0.0.7"), bytesOf("fd00::7")},
		Hostname:          "web-0.example.com",
		Network:           "east",
		TunnelProtocol:    workloadapi.TunnelProtocol_HBONE,
		TrustDomain:       "mesh.example",
		ServiceAccount:    "web",
		Waypoint:          named("shop", "waypoint.shop.svc.cluster.local", 15008),
		NetworkGateway:    behind("west", "192.0.2.1", 15443),
		Node:              "node-1",
		CanonicalName:     "web",
		CanonicalRevision: "v2",
		WorkloadType:      workloadapi.WorkloadType_CRONJOB,
		WorkloadName:      "web-job",
		NativeTunnel:      true,
		ApplicationTunnel: &workloadapi.ApplicationTunnel{
			Protocol: workloadapi.ApplicationTunnel_PROXY,
			Port:     15088,
		},
		Services: map[string]*workloadapi.PortList{
			"shop/web.shop.svc.cluster.local": {Ports: []*workloadapi.Port{
				{ServicePort: 80, TargetPort: 8080, AppProtocol: workloadapi.AppProtocol_HTTP2},
				{ServicePort: 443, TargetPort: 8443},
			}},
			"shop/admin.shop.svc.cluster.local": {Ports: []*workloadapi.Port{{ServicePort: 1, TargetPort: 65535}}},
		},
		AuthorizationPolicies: []string{"shop/only-front", "istio-system/istio_converted_static_strict"},
		Status:                workloadapi.WorkloadStatus_UNHEALTHY,
		ClusterId:             "Kubernetes",
		Locality:              &workloadapi.Locality{Region: "r1", Zone: "z1", Subzone: "s1"},
		NetworkMode:           workloadapi.NetworkMode_HOST_NETWORK,
		Extensions:            []*workloadapi.Extension{{Name: "unknown-to-weft"}},
		Capacity:              wrapperspb.UInt32(7),
	}
}

// service fills every field, also those that Weft skips.
func service() *workloadapi.Service {
	return &workloadapi.Service{
		Name:            "web",
		Namespace:       "shop",
		Hostname:        "web.shop.svc.cluster.local",
		Addresses:       []*workloadapi.NetworkAddress{address("east", "10.96.0.1"), address("", "fd00:96::1")},
		Ports:           []*workloadapi.Port{{ServicePort: 80, TargetPort: 8080}, {ServicePort: 443}},
		SubjectAltNames: []string{"spiffe://mesh.example/ns/shop/sa/other"},
		Waypoint:        behind("east", "10.96.0.9", 15009),
		LoadBalancing: &workloadapi.LoadBalancing{
			RoutingPreference: []workloadapi.LoadBalancing_Scope{
				workloadapi.LoadBalancing_NETWORK, workloadapi.LoadBalancing_REGION, workloadapi.LoadBalancing_ZONE,
				workloadapi.LoadBalancing_SUBZONE, workloadapi.LoadBalancing_NODE, workloadapi.LoadBalancing_CLUSTER,
			},
			Mode:         workloadapi.LoadBalancing_FAILOVER,
			HealthPolicy: workloadapi.LoadBalancing_ALLOW_ALL,
		},
		IpFamilies:         workloadapi.IPFamilies_DUAL,
		Extensions:         []*workloadapi.Extension{{Name: "unknown-to-weft"}},
		Canonical:          true,
		IngressUseWaypoint: true,
		WeightedWaypoints:  []*workloadapi.WeightedWaypoint{{Destination: behind("", "10.96.0.10", 15008), Weight: 3}},
		Visibility:         workloadapi.Service_NAMESPACE,
	}
}

func exact(s string) *security.StringMatch {
	return &security.StringMatch{MatchType: &security.StringMatch_Exact{Exact: s}}
}

func prefix(s string) *security.StringMatch {
	return &security.StringMatch{MatchType: &security.StringMatch_Prefix{Prefix: s}}
}

func suffix(s string) *security.StringMatch {
	return &security.StringMatch{MatchType: &security.StringMatch_Suffix{Suffix: s}}
}

func present() *security.StringMatch {
	return &security.StringMatch{MatchType: &security.StringMatch_Presence{Presence: &emptypb.Empty{}}}
}

func block(cidr string) *security.Address {
	network := netip.MustParsePrefix(cidr)
	return &security.Address{Address: network.Addr().AsSlice(), Length: uint32(network.Bits())}
}

// authorization fills every field, each list with something that no other list holds.
func authorization() *security.Authorization {
	account := func(name string) *security.ServiceAccountMatch {
		return &security.ServiceAccountMatch{Namespace: "shop", ServiceAccount: name}
	}
	return &security.Authorization{
		Name:      "only-front",
		Namespace: "shop",
		Scope:     security.Scope_WORKLOAD_SELECTOR,
		Action:    security.Action_DENY,
		DryRun:    true,
		Groups: []*security.Group{{Rules: []*security.Rules{{Matches: []*security.Match{{
			Namespaces:          []*security.StringMatch{exact("a"), prefix("b"), suffix("c"), present()},
			NotNamespaces:       []*security.StringMatch{exact("d")},
			Principals:          []*security.StringMatch{exact("mesh.example/ns/shop/sa/e")},
			NotPrincipals:       []*security.StringMatch{suffix("/sa/f")},
			SourceIps:           []*security.Address{block("10.0.0.0/8"), block("fd00::/16")},
			NotSourceIps:        []*security.Address{block("10.1.0.0/16")},
			DestinationIps:      []*security.Address{block("10.2.0.0/16")},
			NotDestinationIps:   []*security.Address{block("10.3.0.1/32")},
			DestinationPorts:    []uint32{80, 65535},
			NotDestinationPorts: []uint32{22},
			ServiceAccounts:     []*security.ServiceAccountMatch{account("g")},
			NotServiceAccounts:  []*security.ServiceAccountMatch{account("h")},
			Extensions:          []*workloadapi.Extension{{Name: "unknown-to-weft"}},
		}}}}}},
		Extensions: []*workloadapi.Extension{{Name: "unknown-to-weft"}},
	}
}
