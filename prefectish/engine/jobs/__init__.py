"""What crosses between the scheduling of a run and an executor: jobs, records, receipts, references to values."""
