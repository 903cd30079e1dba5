//! The end of a call of the trainer, and what it means for a run, a pricing or a preparation.

use autoswarm_protocol::{Crash, CrashClass, Outcome};

use super::watch::{CallFault, LastWord, Prepared, Price};

/// How a call of the trainer ended, and what it used up.
#[derive(Debug, Clone, PartialEq)]
pub struct Ended {
    /// The trainer's last word, or why there is none; nothing if the call was cancelled.
    pub(super) said: Option<Result<LastWord, CallFault>>,
    /// The price that the trainer reported, if it did.
    pub price: Option<Price>,
    /// Wall-clock seconds from the start of the call to its end.
    pub seconds: f64,
    /// Most memory seen by the supervisor, bytes; mapped files not counted.
    pub peak_memory_bytes: u64,
}

impl Ended {
    /// Makes the end of a call that failed before there was a process.
    pub(super) fn failed(fault: CallFault) -> Self {
        Self { said: Some(Err(fault)), price: None, seconds: 0.0, peak_memory_bytes: 0 }
    }

    /// Returns the outcome of a run; none if it was cancelled.
    pub fn outcome(self) -> Option<Outcome> {
        let seconds = self.seconds;
        self.said.map(|said| match said {
            Ok(LastWord::Report(report)) => Outcome::Finished(report),
            Ok(LastWord::Pruned(pruned)) => Outcome::Pruned(pruned),
            Ok(other) => Outcome::Crashed(crash(bad("report", &other), seconds)),
            Err(fault) => Outcome::Crashed(crash(fault, seconds)),
        })
    }

    /// Returns the result of a pricing; none if it was cancelled.
    pub(super) fn into_price(self) -> Option<Result<Price, Crash>> {
        let (seconds, price) = (self.seconds, self.price);
        let silent = || CallFault::new(CrashClass::BadOutput, "the trainer said no price");
        let said = self.said?.and_then(|_| price.ok_or_else(silent));
        Some(said.map_err(|fault| crash(fault, seconds)))
    }

    /// Returns the result of a preparation; none if it was cancelled.
    pub(super) fn into_dataset(self) -> Option<Result<Prepared, Crash>> {
        let seconds = self.seconds;
        let said = self.said?.and_then(|word| match word {
            LastWord::Prepared(prepared) => Ok(prepared),
            other => Err(bad("dataset", &other)),
        });
        Some(said.map_err(|fault| crash(fault, seconds)))
    }
}

fn bad(wanted: &str, said: &LastWord) -> CallFault {
    CallFault::new(CrashClass::BadOutput, format!("not a {wanted} but {said:?}"))
}

fn crash(fault: CallFault, seconds: f64) -> Crash {
    Crash { class: fault.class, message: fault.message, seconds }
}
