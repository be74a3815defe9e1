// Package abi holds the names and numbers that every other package of lindbridge shares: cage ids, system call
// numbers, error numbers and the constants of the Lind ABI. It has no logic and imports nothing of the project.
//
// System call numbers and error numbers are those of Linux on x86-64, whatever the host's own architecture is: they are
// what guests are compiled against (see the lind-wasm repository, and arch/x86/entry/syscalls/syscall_64.tbl in Linux).
package abi
