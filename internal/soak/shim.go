package soak

// armShim arms a fault of the shim.
func (a *actor) armShim() {}

// shimFaults reports whether the shim may fail on purpose, which is not told by cage.
func (s *soak) shimFaults() bool { return false }
