"""The registry against the OCI distribution-spec 1.1, section by section, over a true HTTP server.

A file for each workflow category of the specification, with its sections in their order; each test has repositories
of its own. Beyond 1.1 the parts of its development version that cost little are there: `digest-algorithm` (end-4c),
`tag` parameters (end-7b), `Docker-Content-Digest` on all content.

The project's own conformance suite (opencontainers/distribution-spec, folder `conformance`) is written in Go. What it
asks, and where we ask the same:

The suite that is a program (since 2026):

    ping                                        test_pull: the_base_path_says_that_this_is_a_registry
    empty: tag list (200 or 404)                test_pull: a_repository_that_is_not_here_is_404
    empty: referrers (200, an index)            test_content_discovery: what_nothing_refers_to_has_an_empty_list
    sha256 and sha512 blobs:
      get-missing                               test_pull: a_blob_that_is_not_here_is_404
      post only                                 test_push_blobs: a_blob_is_pushed_with_a_single_post
      post+put                                  test_push_blobs: a_blob_is_pushed_with_post_then_put
      chunked single, multi, and put chunk      test_push_blobs: a_blob_is_pushed_in_chunks
      chunked out-of-order (416, GET, go on)    test_push_blobs: a_blob_is_pushed_in_chunks[out_of_order]
      stream                                    test_push_blobs: a_blob_is_streamed_in_one_patch
      mount, mount anonymous                    test_push_blobs: a_blob_is_mounted
      mount missing (202, then PUT)             test_push_blobs: a_mount_that_cannot_be_is_an_upload_that_has_begun
      post cancel (204)                         test_push_blobs: an_upload_is_cancelled
      range 500-1499, 500-, -500, 2000-5000     test_pull: a_part_of_a_blob_is_pulled
      range 500-0, 5000-10000 (416)             test_pull: a_part_that_is_not_there_is_416
      empty, emptyJSON                          test_push_blobs, test_pull: [empty], [empty JSON]
      bad digest: five ways (400)               test_push_blobs: content_that_differs_from_its_digest_is_refused
      head, get, delete of each                 test_pull, test_content_management: a_deleted_blob_is_gone
    image, image-uncompressed                   test_push_manifests: an_image_is_pushed_by_tag_and_by_digest
    large-manifest (3.9 MB of annotations)      test_push_manifests: a_manifest_of_nearly_4_mib_is_kept...
    index, nested-index, empty-index,
      artifact, artifact-index                  test_push_manifests: every_kind_of_manifest_is_kept_byte_for_byte
    artifact-without-layers, no-layers          test_push_manifests: lists_of_layers_may_be_empty
    artifacts-with-subject, index-with-subject,
      missing-subject (OCI-Subject, list,
      artifactType filter)                      test_content_discovery: referrers_are_listed_with_their_types...
    data-field                                  test_push_manifests: the_data_of_a_descriptor_is_kept
    non-distributable-layers                    test_push_manifests: layers_that_are_kept_elsewhere_may_be_missing
    custom-fields                               test_push_manifests: unknown_fields_and_all_white_space_are_kept
    sparse (off by default: a registry may
      refuse)                                   test_push_manifests: a_manifest_needs_all_that_it_names
    sha512                                      test_push_manifests: a_manifest_is_pushed_by_the_digest...
    tag-param-sha256, tag-param-sha512          test_push_manifests: several_tags_are_pushed_at_once
    bad-digest-image, invalid-digest-format     test_push_manifests: a_manifest_that_differs_from_its_digest...
    missing-manifest by-digest, by-tag (404)    test_pull: a_manifest_that_is_not_here_is_404
    tag-list, with last                         test_content_discovery: four_tags_are_listed_in_parts
    tag-, manifest-, blob-delete, at once       test_content_management

The suite that was Go tests (1.0, 1.1), where it asks more:

    400 has a body of the specified form        test_error_codes; test_push_manifests (sha256:totallywrong)
    GET .INVALID_MANIFEST_NAME (404)            test_pull: a_manifest_that_is_not_here_is_404
    PUT of the same manifest with four tags,
      then n=2, n=2&last=                       test_content_discovery: four_tags_are_listed_in_parts
    Location of a chunk, GET of the status      test_push_blobs: a_blob_is_pushed_in_chunks
    five referrers with their annotations,
      two of them by type, none of an unknown   test_content_discovery: referrers_are_listed_with_their_types...
    deleted: tag 202, manifest 202 or 404,
      fewer tags then; blob 202, then 404       test_content_management
"""
