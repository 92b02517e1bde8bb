//go:build !linux

package procstat

import "time"

func cpu(int) (time.Duration, error) { return 0, ErrUnknown }

func memory(int) (Memory, error) { return Memory{}, ErrUnknown }

func names() (kernel, processor string) { return "", "" }
