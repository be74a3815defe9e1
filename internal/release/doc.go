// Package release stores words for readers that load them atomically and take no lock: whoever sees the word sees all that
// was stored before it.
//
// It is sync/atomic's Store but for the wait until every processor has seen the word, which is a locked instruction. It is
// for writers under a lock, whose unlocking waits anyway.
package release
