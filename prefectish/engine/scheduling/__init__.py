"""What runs when: receipts in, jobs out; the state of a run and every rule that changes it."""
