//! The demo's container (`phasegraph demo`): engine and runtime are this program itself, told apart by their first two
//! arguments, `demo-stage` and the stage.

use super::container::Draft;
use super::context::Context;
use super::oci::{Call, Verb};
use super::{Engine, Runtime};
use crate::demo::STAGE;
use crate::model::Image;

/// As reports name engine and runtime.
const NAME: &str = "phasegraph demo";

/// See the module.
#[derive(Debug)]
pub(super) struct Demo;

impl Runtime for Demo {
    fn name(&self, image: &Image) -> Option<&'static str> {
        self.call(image).map(|_| NAME)
    }

    /// `phasegraph demo-stage create FOLDER ID`, as `crate::demo::stage` starts it.
    fn call(&self, image: &Image) -> Option<Call> {
        let [_, marker, stage, folder, id] = &image.argv[..] else {
            return None;
        };
        if marker != STAGE.as_bytes() {
            return None;
        }
        let verb = match &stage[..] {
            b"create" => Verb::Create,
            b"start" => Verb::Start,
            b"delete" => Verb::Delete,
            // The engine and init do more than one call's work.
            _ => return None,
        };
        Some(Call {
            verb,
            id: id.clone(),
            bundle: folder.clone(),
            rest: Vec::new(),
        })
    }
}

impl Engine for Demo {
    fn claim(&self, _context: &Context<'_>, draft: &mut Draft) -> bool {
        if draft.runtime != NAME {
            return false;
        }
        draft.engine = NAME;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image(line: &str) -> Image {
        Image {
            argv: line.split(' ').map(|word| word.as_bytes().to_vec()).collect(),
            ..Image::default()
        }
    }

    /// Make sure that the three calls are known with the container's id, whatever the program is called.
    #[test]
    fn calls() {
        for (stage, verb) in [
            ("create", Verb::Create),
            ("start", Verb::Start),
            ("delete", Verb::Delete),
        ] {
            let image = image(&format!("/opt/pg {STAGE} {stage} /tmp/demo phasegraph-demo-7-1"));
            let call = Demo.call(&image).unwrap();
            assert_eq!((call.verb, &call.id[..]), (verb, &b"phasegraph-demo-7-1"[..]));
            assert_eq!(Demo.name(&image), Some(NAME));
        }
    }

    /// Make sure that neither the other stages nor other programs are taken for the runtime.
    #[test]
    fn others() {
        for line in [
            format!("phasegraph {STAGE} engine /tmp/demo c"),
            format!("/proc/self/exe {STAGE} init /tmp/demo c"),
            format!("/usr/bin/phasegraph {STAGE} entrypoint"),
            format!("phasegraph {STAGE} create /tmp/demo"),
            "phasegraph run create /tmp/demo c".to_owned(),
            "phasegraph".to_owned(),
        ] {
            assert_eq!(Demo.call(&image(&line)), None, "{line}");
        }
    }
}
