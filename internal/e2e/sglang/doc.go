// Package sglang tries the whole system on real engines: SGLang on CPU, behind `radixbus up`.
//
// It has tests only, and they are skipped unless $RADIXBUS_SGLANG_HOME names a folder into which rig/rig.py has installed
// SGLang; `task test:sglang` does both. The model is tiny and its weights are noise, so what it says means nothing; how
// it caches, streams, refuses, drains and dies is what every SGLang does.
//
// # Flow
//
// A test asks [engines] for as many as it needs, of the configurations that it needs; those that run are shared, at most
// three at a time. It starts a hub of its own in front of them, and holds what comes through against what an engine says
// when it is asked directly. Files are in an order that leaves little to start anew: the tests that break engines stand in the last ones.
//
// # Promises
//
// Every test can be run alone. Nothing listens beyond loopback. No engine outlives the tests, however they end.
package sglang
