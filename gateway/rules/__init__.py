"""Pure decisions: no await, no clock, no random numbers, no network; everything they need is an argument."""
