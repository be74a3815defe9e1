// Package leakcheck tells whether the process holds more than before: OS threads, descriptors, memory mappings, resident
// memory. Goroutines are goleak's. It is for tests, and needs Linux's /proc.
package leakcheck
