// Package ours is lindbridge as a contestant: what is measured of it, through its public packages alone.
//
// Requests, as package drive has them; each sample is in nanoseconds for one operation.
//
//	kill BUSY WAITING READING N     from Kill until Wait returns, of a cage with so many threads
//	spawn plain|memory|shared N     from Spawn until Wait returns, of a program that returns at once
//	crop N                          100 of those, spawned and then waited for: wall time for each
//	rate GOROUTINES N               N of those by so many goroutines: one sample, wall time for each
//	call lind|grate1|grate3 N       geteuid of a program, served in Go, by one grate, through three; 10,000 for each sample
//	cages STATE COUNT 0             has so many more cages that are bare, idle, blocked, busy or mixed; one sample, for all
//	stacks COUNT HANDLERS 0         has so many programs under a grate that serves so many of their calls
//	stuck 0, unstuck 0              has a cage whose exit is stuck, and lets it go
//	clear 0                         ends all those cages; one sample, for all
//	version 0                       says what this is
package ours
