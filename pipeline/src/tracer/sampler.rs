//! Which requests get a span: the samplers of OpenTelemetry's SDK specification.

/// What decides.
#[derive(Clone, Debug, PartialEq)]
pub enum Sampler {
    /// All.
    AlwaysOn,
    /// None.
    AlwaysOff,
    /// This share of all traces, from 0 to 1; the same ones for whoever asks with the same share.
    Ratio(f64),
    /// As the sender decided; this one where it said nothing.
    ParentBased(Box<Sampler>),
}

impl Default for Sampler {
    fn default() -> Sampler {
        Sampler::ParentBased(Box::new(Sampler::AlwaysOn))
    }
}

impl Sampler {
    /// Whether the request gets a span; `parent` is whether its sender's span is kept.
    pub fn takes(&self, trace_id: &[u8; 16], parent: Option<bool>) -> bool {
        match self {
            Sampler::AlwaysOn => true,
            Sampler::AlwaysOff => false,
            Sampler::Ratio(share) => {
                let mut low = [0; 8];
                low.copy_from_slice(&trace_id[8..]);
                // As the SDKs of Go and Java do it: of the last 8 bytes, 63 bits.
                let place = u64::from_be_bytes(low) >> 1;
                #[expect(clippy::cast_precision_loss, reason = "a share is not that exact")]
                let place = place as f64 / (1_u64 << 63) as f64;
                place < *share || *share >= 1.0
            }
            Sampler::ParentBased(root) => parent.unwrap_or_else(|| root.takes(trace_id, None)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_takes_what_it_says() {
        let (low, high) = ([0; 16], [0xff; 16]);
        for (sampler, parent, expected) in [
            (Sampler::AlwaysOn, Some(false), [true, true]),
            (Sampler::AlwaysOff, Some(true), [false, false]),
            (Sampler::Ratio(0.0), None, [false, false]),
            (Sampler::Ratio(0.5), Some(true), [true, false]),
            (Sampler::Ratio(1.0), None, [true, true]),
            (Sampler::default(), None, [true, true]),
            (Sampler::default(), Some(false), [false, false]),
            (Sampler::ParentBased(Box::new(Sampler::AlwaysOff)), None, [false, false]),
            (Sampler::ParentBased(Box::new(Sampler::AlwaysOff)), Some(true), [true, true]),
        ] {
            assert_eq!([low, high].map(|id| sampler.takes(&id, parent)), expected, "{sampler:?} {parent:?}");
        }
    }
}
