// Package testkit has the parts that tests of the services stand on: a bus, and scripted counterparts that speak the
// wire protocol or HTTP as a test tells them to, so that each service is tested apart from the others.
//
//   - [Hub] is an embedded bus; every role connects to it in-process.
//   - [Engine] is an engine over HTTP whose answers a test scripts.
//   - [Scheduler] decides as a test tells it to.
//   - [Worker] is an adapter as a gateway sees it.
//   - [Gateway] is a gateway as an adapter sees it.
//   - [Client] is a client of a gateway or an engine, or whoever reads an admin listener.
//   - [Process] is a program that a test runs, kills and asks to stop; [Program] builds it.
//
// Everything is released by the test's cleanup. Everything may be used from any goroutine unless said otherwise.
package testkit
