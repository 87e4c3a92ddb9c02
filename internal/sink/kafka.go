package sink

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/sasl"
	"github.com/twmb/franz-go/pkg/sasl/plain"
	"github.com/twmb/franz-go/pkg/sasl/scram"

	"github.com/musterhq/muster/internal/resource"
)

// kafkaTime bounds the wait for the brokers' word about a record.
const kafkaTime = 60 * time.Second

// kafkaSender produces to a topic, idempotently: what the client itself sends again
// is there once.
type kafkaSender struct {
	client *kgo.Client
	topic  string
	byID   bool
}

func (m *Manager) openKafka(k *resource.SinkKafka) (Sender, error) {
	var conf *tls.Config
	var err error
	if !k.PlainText {
		if conf, err = m.tls(&k.SinkTLS); err != nil {
			return nil, err
		}
	}
	dial := func(ctx context.Context, network, address string) (net.Conn, error) {
		conn, err := m.Egress.DialContext(ctx, network, address)
		if err != nil || conf == nil {
			return conn, err
		}
		own := conf.Clone()
		if own.ServerName, _, err = net.SplitHostPort(address); err != nil {
			return nil, errors.Join(err, conn.Close())
		}
		return tls.Client(conn, own), nil // the first byte shakes hands
	}
	o := []kgo.Opt{
		kgo.SeedBrokers(k.Brokers...), kgo.DefaultProduceTopic(k.Topic), kgo.Dialer(dial), kgo.ClientID("muster"),
		kgo.RecordDeliveryTimeout(kafkaTime), kgo.RequiredAcks(kgo.AllISRAcks()), kgo.ProducerLinger(0),
		kgo.ProducerBatchCompression(kgo.ZstdCompression(), kgo.NoCompression()),
		kgo.MaxBufferedRecords(resource.MaxSinkRows), kgo.RetryTimeout(kafkaTime),
		kgo.UnknownTopicRetries(1),
	}
	if k.SASL != "" {
		password, err := m.secret(k.Password)
		if err != nil {
			return nil, err
		}
		o = append(o, kgo.SASL(saslOf(k.SASL, k.Username, password)))
	}
	client, err := kgo.NewClient(o...)
	if err != nil {
		return nil, err
	}
	return &kafkaSender{client: client, topic: k.Topic, byID: k.Key == "id"}, nil
}

func saslOf(mechanism, user, password string) sasl.Mechanism {
	switch mechanism {
	case "plain":
		return plain.Auth{User: user, Pass: password}.AsMechanism()
	case "scram-sha-256":
		return scram.Auth{User: user, Pass: password}.AsSha256Mechanism()
	default:
		return scram.Auth{User: user, Pass: password}.AsSha512Mechanism()
	}
}

// Send implements Sender.
func (s *kafkaSender) Send(ctx context.Context, items []Item) ([]Refusal, error) {
	records := make([]*kgo.Record, len(items))
	at := make(map[*kgo.Record]int, len(items))
	for i := range items {
		it := &items[i]
		key := it.Record.NodeID
		if s.byID {
			key = it.ID
		}
		records[i] = &kgo.Record{
			Key: []byte(key), Value: it.Line, Timestamp: it.Record.Time,
			Headers: []kgo.RecordHeader{{Key: "id", Value: []byte(it.ID)}, {Key: "query", Value: []byte(it.Record.Query)}},
		}
		at[records[i]] = i
	}
	var refused []Refusal
	var failed error
	for _, r := range s.client.ProduceSync(ctx, records...) {
		switch {
		case r.Err == nil:
		case errors.Is(r.Err, kerr.MessageTooLarge), errors.Is(r.Err, kerr.InvalidRecord):
			refused = append(refused, Refusal{at[r.Record], r.Err.Error()})
		default:
			failed = r.Err
		}
	}
	if failed != nil {
		return nil, fmt.Errorf("topic %s: %w", s.topic, failed)
	}
	return refused, nil
}

// Close implements Sender.
func (s *kafkaSender) Close() error {
	s.client.Close()
	return nil
}
