package lindbridge

import "golang.org/x/sys/unix"

// The prctl for the table of futexes that a process has to itself since Linux 6.17, by linux/prctl.h.
const (
	prFutexHash         = 78
	prFutexHashSetSlots = 1
	prFutexHashGetSlots = 2
)

// The least and the most slots that are asked for: 64 bytes each, of the kernel's memory.
const (
	minFutexSlots = 256
	maxFutexSlots = 4096
)

// growFutexTable gives the process's table of futexes a slot for each four threads. Left alone the kernel gives it some for
// each processor, 16 on two of them, however many threads there are: then every wait and every wake, of whoever, looks
// through hundreds of those that sleep, and takes hundreds of microseconds with ten thousand asleep.
//
// It makes a table larger and never smaller. A kernel that has none, or a host that has chosen to do without (0 slots), is
// left alone; so is a failure, for all works without.
func growFutexTable(threads int) {
	slots := futexSlots(threads)
	have, err := unix.PrctlRetInt(prFutexHash, prFutexHashGetSlots, 0, 0, 0)
	if err != nil || have <= 0 || have >= slots {
		return
	}
	_ = unix.Prctl(prFutexHash, prFutexHashSetSlots, uintptr(slots), 0, 0)
}

// futexSlots is how many slots there should be: a power of two.
func futexSlots(threads int) int {
	slots := minFutexSlots
	for slots < maxFutexSlots && slots < threads/4 {
		slots *= 2
	}
	return slots
}
