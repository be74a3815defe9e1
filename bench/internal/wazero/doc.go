// Package wazero is wazero as a contestant: the runtime in Go, without cgo. It ends a call when its context is done
// (WithCloseOnContextDone), which generated code looks at in loops.
//
// Requests, as package drive has them; each sample is in nanoseconds for one operation.
//
//	kill BUSY WAITING READING N     from the context's cancel until the call has returned and the module is closed; of
//	                                one thread, for a module has no others. Anything but BUSY is announced first.
//	spawn plain|memory N            instantiate, call and close, on the goroutine that asks
//	hostcall N                      a call of a host function in Go that does nothing; 10,000 for each sample
//	version 0                       says what this is
package wazero
