// Package e2e tries the whole system from outside, as its users meet it: the command line, HTTP and the bus.
//
// It has tests only. Some run everything in one process, through package command; the others build the program and an
// external nats-server once and run each role as a process of its own, to kill and restart it. Engines are simulated
// ones, or a counting one whose answer is t0 t1 t2 …, so that a missing or doubled token shows. With -short the tests that
// need processes or much memory are left out.
package e2e
