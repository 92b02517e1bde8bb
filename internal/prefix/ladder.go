package prefix

import "math"

// Ladder1 is the only ladder of block sizes so far: 256 blocks of 64 bytes, 256 of 256 bytes, 256 of 1 KiB, and
// 4 KiB from there on. Short prompts differ early and want fine blocks; in long ones a coarse block is
// a small part of what there is to save.
const Ladder1 uint8 = 1

// Bounds of what is indexed.
const (
	MaxHashes      = 2048 // of one prompt: its first 5.3 MiB
	MaxDigests     = 64   // of one request's batch
	MaxTotalHashes = 4096 // of all of them
)

const (
	stepBlocks = 256 // blocks of each size but the last
	minBlock   = 64
	maxBlock   = 4096
	stepsBytes = stepBlocks * (64 + 256 + 1024) // covered by the sizes below maxBlock
)

// blockSize is the length in bytes of the block at a depth, which counts from 0.
func blockSize(depth int) int {
	switch depth / stepBlocks {
	case 0:
		return minBlock
	case 1:
		return 256
	case 2:
		return 1024
	}
	return maxBlock
}

// LadderBytes returns how many bytes of a canonical prompt the first depth blocks of [Ladder1] cover. It
// is defined for every depth, also beyond [MaxHashes]: 0 below zero, math.MaxInt64 where it would overflow.
func LadderBytes(depth int) int64 {
	d := int64(depth)
	switch {
	case d <= 0:
		return 0
	case d <= stepBlocks:
		return d * minBlock
	case d <= 2*stepBlocks:
		return stepBlocks*64 + (d-stepBlocks)*256
	case d <= 3*stepBlocks:
		return stepBlocks*(64+256) + (d-2*stepBlocks)*1024
	case d-3*stepBlocks > (math.MaxInt64-stepsBytes)/maxBlock:
		return math.MaxInt64
	}
	return stepsBytes + (d-3*stepBlocks)*maxBlock
}

// DepthAt returns how many blocks of [Ladder1] the first n bytes of a canonical prompt complete: the largest
// depth with LadderBytes(depth) <= n.
func DepthAt(n int64) int {
	switch {
	case n <= 0:
		return 0
	case n <= stepBlocks*64:
		return int(n / minBlock)
	case n <= stepBlocks*(64+256):
		return stepBlocks + int((n-stepBlocks*64)/256)
	case n <= stepsBytes:
		return 2*stepBlocks + int((n-stepBlocks*(64+256))/1024)
	}
	return 3*stepBlocks + int((n-stepsBytes)/maxBlock)
}
