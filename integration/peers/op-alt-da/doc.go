// Package peer holds the OP Stack's own Alt-DA client and manager against a DA server of Meridian that runs already. What
// happens to the network meanwhile is up to whoever runs the tests: integration/tests/op_alt_da.rs.
package peer
