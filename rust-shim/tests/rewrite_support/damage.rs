//! Random damage to modules.

use wasm_encoder::{CustomSection, Section};

use super::random::Random;

/// Changes a module in one place.
pub fn damage(module: &mut Vec<u8>, corpus: &[Vec<u8>], random: &mut Random) {
    let at = random.below(module.len() + 1);
    match random.below(5) {
        0 => {
            let value = random.of(&[0, 1, 0x0b, 0x7f, 0x80, 0xd2, 0xfe, 0xff]);
            module.insert(at, value);
        }
        1 if at < module.len() => {
            module[at] = random.of(&[0, 1, 0x0b, 0x10, 0x7f, 0xd2, 0xfe, 0xff])
        }
        2 => {
            let end = module.len().min(at + 1 + random.below(8));
            module.drain(at.min(end)..end);
        }
        3 => {
            let other = &corpus[random.below(corpus.len())];
            let from = random.below(other.len());
            let to = other.len().min(from + 1 + random.below(32));
            let end = module.len().min(at + to - from);
            module.splice(at..end, other[from..to].iter().copied());
        }
        _ => {
            // A custom section at any place that is a section's end is valid; elsewhere it is damage.
            let names = [
                "name",
                "metadata.code.branch_hint",
                "producers",
                ".debug_line",
            ];
            let section = CustomSection {
                name: random.of(&names).into(),
                data: random.bytes(12).into(),
            };
            let mut bytes = Vec::new();
            section.append_to(&mut bytes);
            let at = if random.one_in(2) {
                module.len()
            } else {
                8.min(at)
            };
            module.splice(at..at, bytes);
        }
    }
}
