# Has Redis read its certificates again every RELOAD_SECONDS, for it does so by itself only when it
# starts. Runs beside Redis; says what goes wrong, and goes on. By then Redis may show a certificate
# that has expired, so `--insecure` does not look at it.
while sleep "$RELOAD_SECONDS"; do
  answer=$(redis-cli -e -p 6379 --tls --insecure --cert /tls/tls.crt --key /tls/tls.key CONFIG SET \
    tls-cert-file /tls/tls.crt tls-key-file /tls/tls.key tls-ca-cert-file /tls/ca.crt 2>&1) ||
    echo "Redis has not read its certificates again, and keeps those it has: $answer" >&2
done
