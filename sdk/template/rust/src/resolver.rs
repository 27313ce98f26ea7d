//! @NAME@ - a source resolver: yields a record for each of `names` in the matrix's
//! payload.input. Change records to read your files, tables or pages.
//!
//! What each function may do and when is said in include/exellix/plugin.h.
mod abi;
mod json;

use abi::*;
use std::ffi::c_void;
use std::os::raw::c_char;

/// {"id":NAME,"record":{"name":NAME}} for each. The id is what makes a record new or known:
/// unique within the matrix, for ever.
fn records(query: &str) -> Result<Vec<String>, &'static str> {
    let names = json::find(query, "names").unwrap_or(r#"["Ada","Grace"]"#);
    let names = json::elements(names).ok_or("`names` is no array")?;
    if names.iter().any(|name| !name.starts_with('"')) {
        return Err("a name is no text");
    }
    Ok(names
        .iter()
        .map(|name| format!(r#"{{"id":{name},"record":{{"name":{name}}}}}"#))
        .collect())
}

/// All records of one cycle. emit may wait; when it does not answer OK, return that.
unsafe extern "C" fn execute(instance: *mut c_void, call: Call, args: *const Args) -> Outcome {
    let me = &*(instance as *const Instance);
    let list = match records((*args).model.text()) {
        Ok(list) => list,
        Err(why) => return me.fail(call, INPUT, "NamesWrong", why),
    };
    for record in list {
        let r = me.emit(call, &record);
        if r != OK {
            return r;
        }
    }
    OK
}

static PLUGIN: Plugin = Plugin {
    size_of: std::mem::size_of::<Plugin>() as u32,
    kind: KIND_SOURCE_RESOLVER,
    flags: FLAG_CONCURRENT,
    state_version: 0,
    id: b"@NAME@\0".as_ptr() as *const c_char,
    version: b"0.1.0\0".as_ptr() as *const c_char,
    describe: Str::of(
        r#"{"summary":"yields a record for each name","config":{},"input":{"names":"array of text"}}"#,
    ),
    create,
    execute,
    destroy,
};
static PLUGINS: List<1> = List([&PLUGIN]);
static BUNDLE: Bundle<1> = Bundle { size_of: 24, abi_minor: 0, n: 1, reserved: 0, plugins: &PLUGINS };

#[used]
#[link_section = ".note.exellix"]
static NOTE: Note = note(1 << KIND_SOURCE_RESOLVER, FLAG_CONCURRENT);

#[no_mangle]
pub extern "C" fn exellix_plugin_v1(_host_minor: u32) -> *const Bundle<1> {
    &BUNDLE
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn yields_a_record_for_each_name() {
        let list = records(r#"{"names":["Ada","Grace","Edsger"]}"#).unwrap();
        assert_eq!(list.len(), 3);
        assert_eq!(list[1], r#"{"id":"Grace","record":{"name":"Grace"}}"#);
        assert_eq!(records("{}").unwrap().len(), 2);
        assert!(records(r#"{"names":7}"#).is_err());
        assert!(records(r#"{"names":["Ada",7]}"#).is_err());
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
