-- What a row's record held to before rows stood in blocks: that its line lies somewhere, and has a name of bounded length. Read with a NULL in it,
-- a block would show another row's line.
ALTER TABLE row_block
  ADD CONSTRAINT row_block_input_offsets_are_some CHECK (0 <= ALL (input_offsets) AND array_position(input_offsets, NULL) IS NULL),
  ADD CONSTRAINT row_block_input_lengths_are_some CHECK (0 <= ALL (input_lengths) AND array_position(input_lengths, NULL) IS NULL),
  ADD CONSTRAINT row_block_custom_ids_are_bounded CHECK (length(array_to_string(custom_ids, '')) <= 512 * cardinality(custom_ids));
