//! The proposer as the driver gives it to the research: evolve with its ledger, and program.md read afresh each time.
