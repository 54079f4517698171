//! A plan as text: a line for each launch, then outputs and memory. It holds no timing and no addresses,
//! so that two plans can be compared by their lines.

use std::fmt;

use super::{Buffer, Plan};

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, s) in self.steps.iter().enumerate() {
            let names: Vec<String> = s.binds.iter().map(Buffer::to_string).collect();
            let (out, operands) = names.split_last().expect("every kernel binds its result");
            writeln!(
                f,
                "{i:>4} {:<17} {:<9} {:<4} {}  {} -> {}  groups {}x{}  {:.2} MFLOP {:.1} KB  {}",
                s.kernel.name,
                s.choice.as_ref().map_or("-", |c| c.name),
                s.dtype.to_string(),
                s.shapes,
                operands.join(","),
                out,
                s.workgroups[0],
                s.workgroups[1],
                s.cost.flops as f64 / 1e6,
                s.cost.bytes as f64 / 1e3,
                s.label,
            )?;
        }
        for port in &self.outputs {
            writeln!(f, "{} = {} {}", port.name, port.buffer, port.desc)?;
        }
        writeln!(
            f,
            "activations {} bytes in {} slots (largest live set {}), weights {} bytes in {} buffers",
            self.activation_bytes(),
            self.slots.len(),
            self.largest_live_set,
            self.weight_bytes(),
            self.weights.iter().map(|w| w.parts.len()).sum::<usize>(),
        )
    }
}

impl fmt::Display for Buffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Buffer::Input(i) => write!(f, "in{i}"),
            Buffer::Slot(i) => write!(f, "s{i}"),
            Buffer::Weight(i, 0) => write!(f, "w{i}"),
            Buffer::Weight(i, part) => write!(f, "w{i}.{part}"),
            Buffer::State(i) => write!(f, "st{i}"),
        }
    }
}
