//go:build faults

package fault

// Enabled says that this build has failure points.
const Enabled = true
