// Four channels at a time; `lib/act.wgsl` comes before. Prelude: types X, Y (four of each).

alias V = vec4<f32>;

fn activate_all(v: V) -> V {
    return V(activate(ACT, v.x), activate(ACT, v.y), activate(ACT, v.z), activate(ACT, v.w));
}
