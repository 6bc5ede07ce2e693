//! From sums of leaves to predictions: the inverse link of each objective, with the libraries' own rounding.

/// What is done to the sums of one row.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Link {
    Identity,
    /// `1 / (1 + exp(-scale · x))` of each sum.
    Sigmoid {
        scale: f64,
    },
    Exp,
    Softmax,
    /// The number of the greatest sum: one value a row.
    Argmax,
    /// 1 where the sum is positive, else 0.
    Hinge,
    /// `sign(x) · x²` (LightGBM's `reg_sqrt`).
    SignedSquare,
    /// `log(1 + exp(x))` (LightGBM's `cross_entropy_lambda`).
    LogOnePlusExp,
}

/// XGBoost's sigmoid does not go below `exp(-88.7)` (`src/common/math.h`).
const SIGMOID_CLAMP: f32 = 88.7;

impl Link {
    /// Values a row for this many groups.
    pub(crate) fn width(self, n_groups: usize) -> usize {
        match self {
            Link::Argmax => 1,
            Link::Identity
            | Link::Sigmoid { .. }
            | Link::Exp
            | Link::Softmax
            | Link::Hinge
            | Link::SignedSquare
            | Link::LogOnePlusExp => n_groups,
        }
    }

    /// In XGBoost's arithmetic: 32-bit, but softmax sums in 64.
    pub(crate) fn apply_f32(self, sums: &mut [f32], mut out: impl FnMut(f32)) {
        match self {
            Link::Argmax => out(argmax(sums) as f32),
            Link::Softmax => {
                let greatest = sums.iter().copied().fold(f32::MIN, f32::max);
                let mut total = 0.0_f64;
                for sum in &mut *sums {
                    *sum = (*sum - greatest).exp();
                    total += f64::from(*sum);
                }
                let total = total as f32;
                sums.iter().for_each(|sum| out(sum / total));
            }
            Link::Identity => sums.iter().copied().for_each(out),
            Link::Sigmoid { .. } => sums.iter().for_each(|sum| {
                // `min` as in C++: a NaN sum stays NaN.
                let negated = -sum;
                let x = if SIGMOID_CLAMP < negated {
                    SIGMOID_CLAMP
                } else {
                    negated
                };
                out(1.0 / (x.exp() + 1.0));
            }),
            Link::Exp => sums.iter().for_each(|sum| out(sum.exp())),
            Link::Hinge => sums.iter().for_each(|&sum| out(f32::from(sum > 0.0))),
            Link::SignedSquare => sums.iter().for_each(|sum| out(sum.signum() * sum * sum)),
            Link::LogOnePlusExp => sums.iter().for_each(|sum| out(sum.exp().ln_1p())),
        }
    }

    /// In LightGBM's arithmetic: 64-bit.
    pub(crate) fn apply_f64(self, sums: &mut [f64], mut out: impl FnMut(f64)) {
        match self {
            Link::Argmax => out(argmax(sums) as f64),
            Link::Softmax => {
                let greatest = sums.iter().copied().fold(f64::MIN, f64::max);
                let mut total = 0.0;
                for sum in &mut *sums {
                    *sum = (*sum - greatest).exp();
                    total += *sum;
                }
                sums.iter().for_each(|sum| out(sum / total));
            }
            Link::Identity => sums.iter().copied().for_each(out),
            Link::Sigmoid { scale } => sums
                .iter()
                .for_each(|sum| out(1.0 / (1.0 + (-scale * sum).exp()))),
            Link::Exp => sums.iter().for_each(|sum| out(sum.exp())),
            Link::Hinge => sums.iter().for_each(|&sum| out(f64::from(sum > 0.0))),
            Link::SignedSquare => sums.iter().for_each(|sum| out(sum.signum() * sum * sum)),
            Link::LogOnePlusExp => sums.iter().for_each(|sum| out(sum.exp().ln_1p())),
        }
    }
}

/// The first of the greatest.
fn argmax<T: PartialOrd>(values: &[T]) -> usize {
    let mut best = 0;
    for (at, value) in values.iter().enumerate() {
        if *value > values[best] {
            best = at;
        }
    }
    best
}
