//! Clones that reuse memory.

/// Implements [`Clone`] field by field, so that `clone_from` reuses the memory of each field. The derived
/// `clone_from` makes a new value. A field that is not named does not compile.
///
/// ```
/// #[derive(Debug)]
/// struct Numbers {
///     odd: Vec<u8>,
///     even: Vec<u8>,
/// }
/// vmadiff_machine::clone_by_field!(Numbers { odd, even });
///
/// let one = Numbers { odd: vec![1, 3], even: vec![2] };
/// let mut two = Numbers { odd: Vec::with_capacity(10), even: Vec::new() };
/// two.clone_from(&one);
/// assert_eq!((&two.odd, &two.even), (&one.odd, &one.even));
/// assert_eq!(two.odd.capacity(), 10);
/// ```
#[macro_export]
macro_rules! clone_by_field {
    ($type:ident { $($field:ident),* $(,)? }) => {
        impl Clone for $type {
            fn clone(&self) -> Self {
                let $type { $($field),* } = self;
                $type { $($field: $field.clone()),* }
            }

            #[inline]
            fn clone_from(&mut self, source: &Self) {
                let $type { $($field),* } = source;
                $(self.$field.clone_from($field);)*
            }
        }
    };
}
