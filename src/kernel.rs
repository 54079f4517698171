//! A [`Kernel`] is a WGSL file with its checked Rust face: name, source parts, parameter
//! struct. This module assembles source, validates it with naga and reads bindings back from it.
//! It knows no wgpu and no graph.
//!
//! One kernel has one entry point `main` and all bindings in group 0, dense: operands in order,
//! then the parameters as the last binding. A kernel is specialised only by a [`Variant`]: a
//! prelude of `alias` and `const` lines joined in front of the file. Overrides are not used: naga
//! folds them anew for every pipeline and they cannot size register arrays.

use std::fmt::Write as _;

use naga::valid::{Capabilities, ValidationFlags, Validator};

use crate::tensor::DType;

/// A WGSL kernel and the layout of its parameters.
#[derive(Debug)]
pub struct Kernel {
    /// Unique name; the file in `shaders/` without `.wgsl`.
    pub name: &'static str,
    /// (file name, text) of each part, joined in order.
    pub source: &'static [(&'static str, &'static str)],
    /// Fields of the uniform parameter struct, in order.
    pub params: &'static [Field],
}

/// One field of a parameter struct.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Field {
    /// Name, equal in Rust and WGSL.
    pub name: &'static str,
    /// Offset in bytes.
    pub offset: usize,
    /// WGSL scalar type: `u32` or `f32`.
    pub wgsl: &'static str,
}

/// Rust types that may be fields of a parameter struct.
pub trait ParamScalar {
    /// The WGSL name of the type.
    const WGSL: &'static str;
}

impl ParamScalar for u32 {
    const WGSL: &'static str = "u32";
}

impl ParamScalar for f32 {
    const WGSL: &'static str = "f32";
}

/// Declares a parameter struct together with the field table that tests compare with the WGSL.
macro_rules! params {
    ($(#[$doc:meta])* struct $name:ident { $($field:ident : $ty:ty),* $(,)? }) => {
        $(#[$doc])*
        #[repr(C)]
        #[derive(Debug, Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
        pub(crate) struct $name { $(pub(crate) $field: $ty),* }
        impl $name {
            pub(crate) const FIELDS: &'static [$crate::kernel::Field] = &[$(
                $crate::kernel::Field {
                    name: stringify!($field),
                    offset: std::mem::offset_of!($name, $field),
                    wgsl: <$ty as $crate::kernel::ParamScalar>::WGSL,
                }
            ),*];
        }
    };
}
pub(crate) use params;

/// The parts of a kernel's source, by file name under `shaders/`.
macro_rules! shader {
    ($($file:literal),+ $(,)?) => {
        &[$(($file, include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/shaders/", $file)))),+]
    };
}
pub(crate) use shader;

/// How a kernel's source is specialised: element types and constants set in a prelude.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Variant {
    /// Name, element type, and whether the alias is four of it.
    types: Vec<(&'static str, DType, bool)>,
    consts: Vec<(&'static str, String)>,
    subgroups: bool,
    /// Side of the cooperative matrices, 0 for none.
    matrices: usize,
}

impl Variant {
    /// No aliases, no constants.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds `alias name = <element type>;`.
    pub fn with_type(mut self, name: &'static str, dtype: DType) -> Self {
        self.types.push((name, dtype, false));
        self
    }

    /// Adds `alias name = vec4<element type>;`.
    pub fn with_vec4(mut self, name: &'static str, dtype: DType) -> Self {
        self.types.push((name, dtype, true));
        self
    }

    /// Adds `const name: u32 = value;`.
    pub fn with_u32(mut self, name: &'static str, value: usize) -> Self {
        self.consts.push((name, format!("u32 = {value}u")));
        self
    }

    /// Adds `const name: bool = value;`.
    pub fn with_bool(mut self, name: &'static str, value: bool) -> Self {
        self.consts.push((name, format!("bool = {value}")));
        self
    }

    /// Allows subgroup operations, which the adapter must then offer.
    pub fn with_subgroups(mut self) -> Self {
        self.subgroups = true;
        self
    }

    /// Allows cooperative matrices of `side` rows and columns (8 or 16), which the adapter must then
    /// offer with f16 operands and f32 accumulators: aliases `MatA`, `MatB`, `MatC` and const `SIDE`.
    pub fn with_matrices(mut self, side: usize) -> Self {
        self.matrices = side;
        self
    }

    /// True if the kernel uses operations of subgroups.
    pub fn uses_subgroups(&self) -> bool {
        self.subgroups
    }

    /// True if any alias is f16, so that the adapter must offer `SHADER_F16`.
    pub fn uses_f16(&self) -> bool {
        self.uses_matrices() || self.types.iter().any(|(_, t, _)| *t == DType::F16)
    }

    /// True if the kernel works on cooperative matrices.
    pub fn uses_matrices(&self) -> bool {
        self.matrices != 0
    }

    /// Side of the cooperative matrices, 0 if there are none.
    pub fn matrix_side(&self) -> usize {
        self.matrices
    }

    /// The lines joined in front of the kernel.
    pub fn prelude(&self) -> String {
        let mut s = String::new();
        if self.uses_f16() {
            s.push_str("enable f16;\n");
        }
        if self.uses_matrices() {
            let side = self.matrices;
            s.push_str("enable wgpu_cooperative_matrix;\n");
            for (role, element) in [("A", "f16"), ("B", "f16"), ("C", "f32")] {
                let _ = writeln!(s, "alias Mat{role} = coop_mat{side}x{side}<{element}, {role}>;");
            }
            let _ = writeln!(s, "const SIDE: u32 = {side}u;");
        }
        for (name, dtype, four) in &self.types {
            let element = dtype.wgsl();
            let _ = if *four {
                writeln!(s, "alias {name} = vec4<{element}>;")
            } else {
                writeln!(s, "alias {name} = {element};")
            };
        }
        for (name, value) in &self.consts {
            let _ = writeln!(s, "const {name}: {value};");
        }
        s
    }
}

/// One binding of a kernel, as read from its WGSL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Binding {
    /// Name of the global variable.
    pub name: String,
    /// Binding index in group 0.
    pub index: u32,
    /// What it is bound as.
    pub kind: BindingKind,
}

/// How a binding is accessed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BindingKind {
    /// `var<storage, read>`.
    Read,
    /// `var<storage, read_write>`.
    ReadWrite,
    /// `var<uniform>`: the parameters.
    Uniform,
}

/// What naga says of a validated kernel.
#[derive(Debug)]
pub struct Reflection {
    /// The parsed module, ready for a backend.
    pub module: naga::Module,
    /// naga's analysis of the module, needed by its backends.
    pub info: naga::valid::ModuleInfo,
    /// Bindings in index order.
    pub bindings: Vec<Binding>,
    /// Fields of the parameter struct: name, offset in bytes, WGSL scalar type.
    pub params: Vec<(String, usize, String)>,
    /// Invocations per workgroup (x, y, z).
    pub workgroup: [u32; 3],
    /// Bytes of workgroup memory.
    pub workgroup_bytes: u32,
}

impl Reflection {
    /// The same kernel, which reads its parameters from a storage buffer in place of a uniform one.
    pub fn with_stored_params(mut self) -> Self {
        for (_, global) in self.module.global_variables.iter_mut() {
            if global.space == naga::AddressSpace::Uniform {
                global.space = naga::AddressSpace::Storage { access: naga::StorageAccess::LOAD };
            }
        }
        for binding in self.bindings.iter_mut().filter(|b| b.kind == BindingKind::Uniform) {
            binding.kind = BindingKind::Read;
        }
        self
    }
}

impl Kernel {
    /// Full WGSL text of a variant.
    pub fn text(&self, variant: &Variant) -> String {
        let mut s = variant.prelude();
        for (_, part) in self.source {
            s.push_str(part);
            s.push('\n');
        }
        s
    }

    /// Parses and validates a variant with no more than the capabilities it declares, and reads
    /// bindings, parameters and workgroup size back from it.
    ///
    /// # Errors
    /// naga's own diagnostic, with the line it points at.
    pub fn reflect(&self, variant: &Variant) -> Result<Reflection, String> {
        let text = self.text(variant);
        let module =
            naga::front::wgsl::parse_str(&text).map_err(|e| e.emit_to_string_with_path(&text, self.name))?;
        let mut capabilities = Capabilities::empty();
        capabilities.set(Capabilities::SHADER_FLOAT16, variant.uses_f16());
        capabilities.set(Capabilities::SUBGROUP, variant.subgroups);
        capabilities.set(Capabilities::COOPERATIVE_MATRIX, variant.uses_matrices());
        let info = Validator::new(ValidationFlags::all(), capabilities)
            .validate(&module)
            .map_err(|e| e.emit_to_string_with_path(&text, self.name))?;
        reflect_module(module, info)
    }
}

fn reflect_module(module: naga::Module, info: naga::valid::ModuleInfo) -> Result<Reflection, String> {
    let [entry] = module.entry_points.as_slice() else {
        return Err(format!("{} entry points, expected one", module.entry_points.len()));
    };
    if entry.name != "main" {
        return Err(format!("entry point is `{}`, expected `main`", entry.name));
    }
    let workgroup = entry.workgroup_size;
    let mut bindings = Vec::new();
    let mut params = Vec::new();
    let mut workgroup_bytes = 0;
    for (_, global) in module.global_variables.iter() {
        let name = global.name.clone().unwrap_or_default();
        if global.space == naga::AddressSpace::WorkGroup {
            workgroup_bytes += module.types[global.ty].inner.size(module.to_ctx());
        }
        let Some(at) = &global.binding else { continue };
        if at.group != 0 {
            return Err(format!("`{name}` is in group {}, expected 0", at.group));
        }
        let kind = match global.space {
            naga::AddressSpace::Uniform => {
                params = struct_fields(&module, global.ty)?;
                BindingKind::Uniform
            }
            naga::AddressSpace::Storage { access } if access.contains(naga::StorageAccess::STORE) => {
                BindingKind::ReadWrite
            }
            naga::AddressSpace::Storage { .. } => BindingKind::Read,
            other => return Err(format!("`{name}` has address space {other:?}")),
        };
        bindings.push(Binding { name, index: at.binding, kind });
    }
    bindings.sort_by_key(|b| b.index);
    for (i, b) in bindings.iter().enumerate() {
        if b.index as usize != i {
            return Err(format!("bindings are not dense: `{}` has index {}", b.name, b.index));
        }
    }
    Ok(Reflection { module, info, bindings, params, workgroup, workgroup_bytes })
}

fn struct_fields(
    module: &naga::Module,
    ty: naga::Handle<naga::Type>,
) -> Result<Vec<(String, usize, String)>, String> {
    let naga::TypeInner::Struct { members, .. } = &module.types[ty].inner else {
        return Err("the uniform is not a struct".to_owned());
    };
    members
        .iter()
        .map(|m| {
            let naga::TypeInner::Scalar(scalar) = module.types[m.ty].inner else {
                return Err(format!("parameter {:?} is not a scalar", m.name));
            };
            let wgsl = match scalar.kind {
                naga::ScalarKind::Uint => "u32",
                naga::ScalarKind::Float => "f32",
                other => return Err(format!("parameter {:?} has kind {other:?}", m.name)),
            };
            Ok((m.name.clone().unwrap_or_default(), m.offset as usize, wgsl.to_owned()))
        })
        .collect()
}
