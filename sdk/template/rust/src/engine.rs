//! @NAME@ - a graph engine: greets the `name` of each record. Change greet to do your work.
//!
//! What each function may do and when is said in include/exellix/plugin.h.
mod abi;
mod json;

use abi::*;
use std::ffi::c_void;
use std::os::raw::c_char;

/// The record is runtime.input; what comes back is the answer.
fn greet(runtime: &str) -> Result<String, &'static str> {
    let name = json::find(runtime, "input")
        .and_then(|input| json::find(input, "name"))
        .filter(|name| name.starts_with('"'))
        .ok_or("the record has no `name` that is a text")?;
    Ok(format!(
        r#"{{"status":"completed","outputsByNodeId":{{"hello":{{"greeted":{name}}}}}}}"#
    ))
}

/// Several threads may be in here at once, because the flags below say FLAG_CONCURRENT.
unsafe extern "C" fn execute(instance: *mut c_void, call: Call, args: *const Args) -> Outcome {
    let me = &*(instance as *const Instance);
    let asked = me.cancelled(call); // work that takes long asks now and then
    if asked != OK {
        return asked;
    }
    match greet((*args).runtime.text()) {
        Ok(answer) => me.emit(call, &answer),
        Err(why) => me.fail(call, INPUT, "NameMissing", why),
    }
}

static PLUGIN: Plugin = Plugin {
    size_of: std::mem::size_of::<Plugin>() as u32,
    kind: KIND_GRAPH_ENGINE,
    flags: FLAG_CONCURRENT,
    state_version: 0,
    id: b"@NAME@\0".as_ptr() as *const c_char,
    version: b"0.1.0\0".as_ptr() as *const c_char,
    describe: Str::of(
        r#"{"summary":"greets each record","config":{},"input":{"name":"text"}}"#,
    ),
    create,
    execute,
    destroy,
};
static PLUGINS: List<1> = List([&PLUGIN]);
static BUNDLE: Bundle<1> = Bundle { size_of: 24, abi_minor: 0, n: 1, reserved: 0, plugins: &PLUGINS };

#[used]
#[link_section = ".note.exellix"]
static NOTE: Note = note(1 << KIND_GRAPH_ENGINE, FLAG_CONCURRENT);

#[no_mangle]
pub extern "C" fn exellix_plugin_v1(_host_minor: u32) -> *const Bundle<1> {
    &BUNDLE
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn greets_a_record_and_refuses_an_empty_one() {
        let answer = greet(r#"{"jobId":"j","input":{"name":"Ada"}}"#).unwrap();
        assert_eq!(json::find(&answer, "status"), Some(r#""completed""#));
        assert!(answer.contains(r#""greeted":"Ada""#));
        assert!(greet(r#"{"input":{}}"#).is_err());
        assert!(greet(r#"{"input":{"name":7}}"#).is_err());
    }

    #[test]
    fn tables_have_the_sizes_of_the_header() {
        assert_eq!(std::mem::size_of::<Plugin>(), 72);
        assert_eq!(std::mem::size_of::<Host>(), 104);
        assert_eq!(std::mem::size_of::<Args>(), 88);
        assert_eq!(std::mem::size_of::<Bundle<1>>(), 24);
        assert_eq!(std::mem::size_of::<Note>(), 44);
    }
}
