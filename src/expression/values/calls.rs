//! Builtins from functions over values.

use std::sync::Arc;

use crate::expression::{Builtin, Datum, Evaluated, Stop, Ty};

/// A strict, immutable builtin of one argument.
pub(super) fn unary(returns: Ty, call: impl Fn(&Datum) -> Evaluated + Send + Sync + 'static) -> Builtin {
    Builtin {
        returns,
        strict: true,
        immutable: true,
        call: Arc::new(move |arguments| match arguments {
            [Some(only)] => call(only),
            [None] => Ok(None),
            _ => unexpected(),
        }),
    }
}

/// A strict, immutable builtin of two arguments.
pub(super) fn binary(
    returns: Ty,
    call: impl Fn(&Datum, &Datum) -> Evaluated + Send + Sync + 'static,
) -> Builtin {
    Builtin {
        returns,
        strict: true,
        immutable: true,
        call: Arc::new(move |arguments| match arguments {
            [Some(left), Some(right)] => call(left, right),
            [_, _] => Ok(None),
            _ => unexpected(),
        }),
    }
}

/// An immutable builtin of two arguments that is called with NULLs too.
pub(super) fn lenient(
    returns: Ty,
    call: impl Fn(Option<&Datum>, Option<&Datum>) -> Evaluated + Send + Sync + 'static,
) -> Builtin {
    Builtin {
        returns,
        strict: false,
        immutable: true,
        call: Arc::new(move |arguments| match arguments {
            [left, right] => call(left.as_ref(), right.as_ref()),
            _ => unexpected(),
        }),
    }
}

/// Arguments of other types than the builtin was chosen for: whoever made them is wrong, so nothing is concluded.
pub(super) fn unexpected<T>() -> Result<T, Stop> {
    Err(Stop::ask("a value of an unexpected type"))
}
