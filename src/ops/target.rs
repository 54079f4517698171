//! What an adapter allows and offers, as far as choosing launches goes.

/// What the adapter allows, as far as choosing launches goes. Plain data, so that a plan can be
/// made (and tested) for an adapter this machine does not have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// Largest storage buffer binding in bytes.
    pub max_binding_bytes: u64,
    /// Most workgroups in one dimension of a dispatch.
    pub max_workgroups: u32,
    /// Most invocations in one workgroup.
    pub max_invocations: u32,
    /// Bytes of workgroup memory.
    pub max_workgroup_bytes: u32,
    /// True if kernels may use f16 storage.
    pub f16: bool,
    /// True for software rasterisers, where barriers are slow and lanes are SIMD lanes.
    pub cpu: bool,
    /// Workgroups that run at the same time, roughly: no interface tells, so it is an estimate by
    /// kind of adapter that only static choices between tile sizes rest on.
    pub workgroup_slots: u32,
    /// Invocations of a subgroup where that is one fixed number and subgroup operations may be
    /// used, else 0.
    pub subgroup: u32,
    /// Cooperative matrices with f16 operands and f32 accumulators, if kernels may use them.
    pub matrices: Option<Matrices>,
}

/// What an adapter offers of cooperative matrices.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Matrices {
    /// 8 x 8 x 8 is among the shapes.
    pub side8: bool,
    /// 16 x 16 x 16 is among the shapes.
    pub side16: bool,
    /// Invocations of the largest subgroup; kernels are right with smaller ones too, if slower.
    pub subgroup: u32,
    /// Matrices can be loaded from and stored to arrays of vec4 (not so in Metal's language).
    pub quads: bool,
}

impl Matrices {
    /// Whether matrices of this side exist.
    pub fn has(&self, side: usize) -> bool {
        (side == 8 && self.side8) || (side == 16 && self.side16)
    }
}

impl Target {
    /// WebGPU's default limits: what every adapter offers.
    pub fn portable() -> Self {
        Self {
            max_binding_bytes: 128 << 20,
            max_workgroups: 65_535,
            max_invocations: 256,
            max_workgroup_bytes: 16_384,
            f16: false,
            cpu: false,
            workgroup_slots: 32,
            subgroup: 0,
            matrices: None,
        }
    }

    /// The same limits on a software adapter.
    pub fn portable_cpu() -> Self {
        Self { cpu: true, ..Self::portable() }
    }
}
