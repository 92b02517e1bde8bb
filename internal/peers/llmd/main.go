// Command front lets an endpoint picker of the Gateway API inference extension be measured without Envoy and without
// Kubernetes: it serves HTTP as Envoy would with the picker's own configuration, asking it over ext-proc in full duplex,
// and it is the picker's Kubernetes, with one pod whose ports are the engines.
//
//	front -listen 127.0.0.1:30900 -cluster 127.0.0.1:30901 -picker 127.0.0.1:9002 31000 31001 31002 31003
//
// Loopback only. What it costs itself is no part of the picker's figures.
package main

import (
	"flag"
	"log"
	"net/http"
	"strconv"
	"strings"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
)

func main() {
	listen := flag.String("listen", "127.0.0.1:30900", "address for clients")
	cluster := flag.String("cluster", "127.0.0.1:30901", "address of the Kubernetes API")
	picker := flag.String("picker", "127.0.0.1:9002", "address of the endpoint picker")
	labels := flag.String("labels", "app=engine", "labels of the pod, key=value, separated by commas")
	flag.Parse()

	ports := make([]int, flag.NArg())
	for i, arg := range flag.Args() {
		port, err := strconv.Atoi(arg)
		if err != nil {
			log.Fatal(err)
		}
		ports[i] = port
	}
	go func() { log.Fatal(http.ListenAndServe(*cluster, newCluster(pairs(*labels), ports))) }()
	conn, err := grpc.NewClient(*picker, grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(maxBody), grpc.MaxCallSendMsgSize(maxBody)))
	if err != nil {
		log.Fatal(err)
	}
	log.Fatal(http.ListenAndServe(*listen, newFront(conn)))
}

func pairs(text string) map[string]string {
	out := make(map[string]string)
	for pair := range strings.SplitSeq(text, ",") {
		key, value, _ := strings.Cut(pair, "=")
		out[key] = value
	}
	return out
}
