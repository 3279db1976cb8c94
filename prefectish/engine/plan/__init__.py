"""From a flow to its steps: what a run computes, and over what each map goes."""
