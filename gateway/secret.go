package gateway

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// The bucket that holds the digest secret. Only gateways may read it.
const (
	secretBucket = "radixbus_digest"
	secretKey    = "secret"
)

// SharedSecret is the digest secret that the gateways of a bus agree on: the first one mints it. It needs a bus with
// JetStream.
func SharedSecret(ctx context.Context, nc *nats.Conn) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	js, err := jetstream.New(nc)
	if err != nil {
		return nil, fmt.Errorf("digest secret: %w", err)
	}
	kv, err := js.KeyValue(ctx, secretBucket) // an operator's settings of it stay
	if errors.Is(err, jetstream.ErrBucketNotFound) {
		kv, err = js.CreateOrUpdateKeyValue(ctx, jetstream.KeyValueConfig{Bucket: secretBucket, Description: "Radixbus: secret of the digests; for gateways only"})
	}
	if err != nil {
		return nil, fmt.Errorf("digest secret: %w", err)
	}
	mine := make([]byte, 32)
	rand.Read(mine) //nolint:errcheck // never fails
	if _, err = kv.Create(ctx, secretKey, mine); err == nil {
		return mine, nil
	}
	if !errors.Is(err, jetstream.ErrKeyExists) {
		return nil, fmt.Errorf("digest secret: %w", err)
	}
	entry, err := kv.Get(ctx, secretKey)
	if err != nil {
		return nil, fmt.Errorf("digest secret: %w", err)
	}
	return entry.Value(), nil
}
