// One channel at a time; `lib/act.wgsl` comes before. Prelude: types X, Y.

alias V = f32;

fn activate_all(v: V) -> V {
    return activate(ACT, v);
}
