"""From records to answers: tables, intervals, comparisons, claims."""
