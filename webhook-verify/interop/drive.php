<?php
// Signs and verifies the two kinds of PayTabs delivery in PHP, by the calls and in the order of
// PayTabs' own PHP library (is_valid_redirect, is_valid_ipn); drive.py tells the form of requests
// and answers.

// A warning must fail the test, not end up in an answer.
set_error_handler(function ($level, $text) {
    throw new ErrorException($text);
});

function signed_form(string $body): string
{
    parse_str($body, $fields); // What fills $_POST.
    unset($fields['signature']);
    $fields = array_filter($fields);
    ksort($fields);
    return http_build_query($fields);
}

function answer(array $r): array
{
    if ($r['op'] === 'version') {
        return ['version' => (string) PHP_MAJOR_VERSION];
    }
    $body = base64_decode($r['body'], true);
    $redirect = $r['scheme'] === 'paytabs_return';
    $mac = hash_hmac('sha256', $redirect ? signed_form($body) : $body, $r['key']);
    if ($r['op'] === 'sign' && $redirect) {
        return ['headers' => (object) [], 'body' => base64_encode("$body&signature=$mac")];
    }
    if ($r['op'] === 'sign') {
        return ['headers' => ['signature' => $mac]];
    }
    $given = $r['headers']['signature'] ?? null;
    if ($redirect) {
        parse_str($body, $fields);
        $given = $fields['signature'];
    }
    return ['ok' => hash_equals($mac, $given)];
}

while (($line = fgets(STDIN)) !== false) {
    try {
        $reply = answer(json_decode($line, true, 8, JSON_THROW_ON_ERROR));
    } catch (Throwable $error) {
        $reply = ['error' => get_class($error) . ': ' . $error->getMessage()];
    }
    fwrite(STDOUT, json_encode($reply) . "\n");
}
