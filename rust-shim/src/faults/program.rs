//! What a failure point is told to do: a little language, which `lindshim_fault_set` describes.

use super::MAX_SLEEP;
use std::time::Duration;

/// What a point does each time that it is passed: the first of its terms that applies.
#[derive(Debug)]
pub struct Program {
    terms: Vec<Term>,
    seed: u64,
    passed: u64,
}

#[derive(Debug)]
struct Term {
    /// How often it applies, in millionths.
    often: u64,
    /// How many times more it does.
    left: Option<u64>,
    action: Action,
}

/// What happens at a point.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Nothing.
    Off,
    /// The operation fails.
    Fail,
    /// Another thread runs first.
    Yield,
    /// The thread is late.
    Sleep(Duration),
}

const ALWAYS: u64 = 1_000_000;

impl Program {
    /// Reads what `lindshim_fault_set` describes; on failure answers why it is none.
    pub fn parse(text: &str) -> Result<Self, String> {
        let text = text.trim();
        let (seed, terms) = match text.strip_prefix("seed=") {
            None => (0, text),
            Some(rest) => {
                let (seed, terms) = rest.split_once(';').unwrap_or((rest, ""));
                let seed = seed.trim();
                (
                    seed.parse()
                        .map_err(|_| format!("{seed:?} is no seed, a number"))?,
                    terms,
                )
            }
        };
        let terms = match terms.trim() {
            "" => Vec::new(),
            terms => terms
                .split("->")
                .map(|term| Term::parse(term.trim()))
                .collect::<Result<_, _>>()?,
        };
        Ok(Program {
            terms,
            seed,
            passed: 0,
        })
    }

    /// Whether it ever does anything.
    pub fn acts(&self) -> bool {
        self.terms.iter().any(|term| term.action != Action::Off)
    }

    /// Whether it ever does this.
    pub fn does(&self, action: Action) -> bool {
        self.terms.iter().any(|term| term.action == action)
    }

    /// What to do this time.
    pub fn next(&mut self) -> Action {
        self.passed += 1;
        for (i, term) in self.terms.iter_mut().enumerate() {
            let dice = mix(self.seed ^ mix(self.passed) ^ (i as u64) << 56);
            if term.left == Some(0) || dice % ALWAYS >= term.often {
                continue;
            }
            if let Some(left) = &mut term.left {
                *left -= 1;
            }
            return term.action;
        }
        Action::Off
    }
}

impl Term {
    fn parse(text: &str) -> Result<Self, String> {
        let (often, rest) = match text.split_once('%') {
            None => (ALWAYS, text),
            Some((percent, rest)) => match percent.trim().parse::<f64>() {
                Ok(percent) if (0.0..=100.0).contains(&percent) => {
                    ((percent * 10_000.0).round() as u64, rest)
                }
                _ => return Err(format!("{percent:?} is no percentage, 0 to 100")),
            },
        };
        let (left, action) = match rest.split_once('*') {
            None => (None, rest),
            Some((times, action)) => {
                let times = times.trim();
                let left = times.parse();
                (
                    Some(left.map_err(|_| format!("{times:?} is no number of times"))?),
                    action,
                )
            }
        };
        Ok(Term {
            often,
            left,
            action: Action::parse(action.trim())?,
        })
    }
}

impl Action {
    fn parse(text: &str) -> Result<Self, String> {
        match text {
            "off" => return Ok(Action::Off),
            "fail" => return Ok(Action::Fail),
            "yield" => return Ok(Action::Yield),
            _ => {}
        }
        let unknown = || format!("{text:?} is no action");
        let time = text
            .strip_prefix("sleep(")
            .and_then(|rest| rest.strip_suffix(')'))
            .ok_or_else(unknown)?;
        let (number, unit): (_, fn(u64) -> Duration) = match time.strip_suffix("us") {
            Some(number) => (number, Duration::from_micros),
            None => match time.strip_suffix("ms") {
                Some(number) => (number, Duration::from_millis),
                None => return Err(unknown()),
            },
        };
        let time = number.trim().parse().map(unit).map_err(|_| unknown())?;
        if time > MAX_SLEEP {
            return Err(format!("{text:?} is longer than {MAX_SLEEP:?}"));
        }
        Ok(Action::Sleep(time))
    }
}

/// Sebastiano Vigna's splitmix64: its numbers are as good as random for nearby seeds.
fn mix(x: u64) -> u64 {
    let x = x.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let x = (x ^ (x >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let x = (x ^ (x >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    x ^ (x >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn actions(text: &str, n: usize) -> Vec<Action> {
        let mut program = Program::parse(text).unwrap();
        (0..n).map(|_| program.next()).collect()
    }

    #[test]
    fn terms_apply_in_their_order_and_as_often_as_they_say() {
        use Action::*;
        assert_eq!(actions("fail", 2), [Fail, Fail]);
        assert_eq!(actions("", 2), [Off, Off]);
        assert_eq!(
            actions("2*off->1*fail->sleep(3ms)", 4),
            [Off, Off, Fail, Sleep(Duration::from_millis(3))]
        );
        assert_eq!(
            actions(" 1*sleep(7us) -> 0%fail -> yield ", 2),
            [Sleep(Duration::from_micros(7)), Yield]
        );
        let fails = |text| {
            actions(text, 10_000)
                .iter()
                .filter(|it| **it == Fail)
                .count()
        };
        assert!((1500..2500).contains(&fails("20%fail")));
        assert!((50..150).contains(&fails("seed=3;1%fail")));
        assert_eq!(actions("seed=1;50%fail", 64), actions("seed=1;50%fail", 64));
        assert_ne!(actions("seed=1;50%fail", 64), actions("seed=2;50%fail", 64));
        let capped = actions("30%5*fail", 1000);
        assert_eq!(capped.iter().filter(|it| **it == Fail).count(), 5);
    }

    #[test]
    fn what_is_no_program_is_an_error() {
        for text in [
            "panic",
            "sleep",
            "sleep()",
            "sleep(1)",
            "sleep(1s)",
            "sleep(-1ms)",
            "sleep(1001ms)",
            "x*fail",
            "-1*fail",
            "101%fail",
            "-1%fail",
            "NaN%fail",
            "fail->",
            "->fail",
            "seed=;fail",
            "seed=x;fail",
            "fail fail",
            "fail;fail",
            "sleep(99999999999999999999ms)",
        ] {
            assert!(Program::parse(text).is_err(), "{text:?}");
        }
    }
}
