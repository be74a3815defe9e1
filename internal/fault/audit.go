package fault

// What is the kind of an Audit.
type What uint8

// The kinds.
const (
	// Called: a guest's call has come to the host.
	Called What = iota + 1
	// Started: a guest's request for a thread was granted.
	Started
	// Ended: a thread of the guest has ended by itself.
	Ended
)

// Audit is something that happened on behalf of a cage whose exit had begun, for whoever checks that it was allowed to.
type Audit struct {
	What What
	Cage uint64
	// Phase is the exit's when it happened, an exitcoord.Phase.
	Phase int
	// Closed says that the shim had closed the cage's gate before it was asked.
	Closed bool
}

// SetAudit has fn be told of what guests do while their exits are under way, in builds with the tag faults; nil: nobody. It
// is called on the guests' threads and must not block.
func SetAudit(fn func(Audit)) {
	if fn == nil {
		registry.audit.Store(nil)
		return
	}
	registry.audit.Store(&fn)
}

// Tell tells of a.
func Tell(a Audit) {
	if !Enabled {
		return
	}
	if fn := registry.audit.Load(); fn != nil {
		(*fn)(a)
	}
}
