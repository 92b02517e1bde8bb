// Radixbus routes LLM requests to the SGLang worker that already has their prefix in its KV cache, over NATS.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"

	"github.com/radixbus/radixbus/internal/command"
	"github.com/radixbus/radixbus/internal/heap"
)

func main() {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(heap.Most) // a role that serves fits it to its heap
	}
	ctx, cancel := context.WithCancelCause(context.Background())
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM)
	go func() { // the first asks to drain, the second does not ask
		first := <-signals
		cancel(command.Signal(first.String()))
		fmt.Fprintln(os.Stderr, first.String()+": draining; once more to stop now")
		<-signals
		os.Exit(130)
	}()
	err := command.Run(ctx, command.Process{Args: os.Args[1:], Environ: os.Environ(), Stdout: os.Stdout, Stderr: os.Stderr})
	if err != nil {
		fmt.Fprintln(os.Stderr, "radixbus:", err)
		code := 1
		if exit, ok := errors.AsType[*command.ExitError](err); ok {
			code = exit.Code
		}
		os.Exit(code)
	}
}
