// Package threei is system-call interposition (3i): it decides who serves a cage's system call, and it is the one entry
// through which a cage ends.
//
// A system call is a number, six argument words and, for each word, the cage whose memory it points into if it is a
// pointer. System.Syscall looks up who serves (cage, number) and calls it; what no grate serves goes to the native
// function of that number, which package rawposix supplies.
//
// It executes no guest code itself and knows nothing of descriptors or files.
package threei
