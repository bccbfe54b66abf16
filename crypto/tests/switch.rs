//! The switch, which is for good: this test has a process of its own.

use adit_crypto::{Backend, TAG_LEN, aead, preferred_backend, self_test, use_library};

#[test]
fn new_keys_use_the_library_once_told_to_and_old_ones_still_work() {
    let preferred = Backend::available().last();
    assert_eq!(Some(preferred_backend()), preferred);
    assert_eq!(self_test().map(|tested| (Some(tested.aead), tested.rejected)), Ok((preferred, None)));
    let before = aead::Key::new(&[7; 32]);

    use_library();
    assert_eq!(preferred_backend(), Backend::AwsLc);
    assert_eq!(self_test().map(|tested| (tested.aead, tested.rejected)), Ok((Backend::AwsLc, None)));
    let after = aead::Key::new(&[7; 32]);

    let mut packet = [0x55; 1420 + TAG_LEN];
    aead::seal(&before, 3, &[], &mut packet);
    assert!(aead::open(&after, 3, &[], &mut packet).is_ok_and(|text| text == [0x55; 1420]));
}
