package main

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/apache/rocketmq-client-go/v2"
	"github.com/apache/rocketmq-client-go/v2/primitive"
	"github.com/apache/rocketmq-client-go/v2/producer"
)

const (
	// The message's property that names the outcome of its local transaction.
	stateProperty  = "state"
	requestTimeout = 30 * time.Second
)

var states = map[string]primitive.LocalTransactionState{
	"COMMIT_MESSAGE":   primitive.CommitMessageState,
	"ROLLBACK_MESSAGE": primitive.RollbackMessageState,
	"UNKNOW":           primitive.UnknowState,
}

// transactions is a producer and the listener that answers for it as it was told.
type transactions struct {
	producer rocketmq.TransactionProducer
	mutex    sync.Mutex
	answer   primitive.LocalTransactionState
	checks   []map[string]any
}

func (t *transactions) ExecuteLocalTransaction(m *primitive.Message) primitive.LocalTransactionState {
	return states[m.GetProperty(stateProperty)]
}

func (t *transactions) CheckLocalTransaction(m *primitive.MessageExt) primitive.LocalTransactionState {
	t.mutex.Lock()
	defer t.mutex.Unlock()
	t.checks = append(t.checks, map[string]any{"topic": m.Topic, "body": string(m.Body), "transaction_id": m.TransactionId})
	return t.answer
}

func (d *driver) runTransaction(r request) (any, error) {
	if r.Command == "transaction.start" {
		return d.startTransactions(r)
	}
	t := d.transactions[r.Name]
	if r.Command == "transaction.running" {
		return t != nil, nil
	}
	if t == nil {
		return nil, fmt.Errorf("no transactional producer named %q", r.Name)
	}
	t.mutex.Lock()
	defer t.mutex.Unlock()
	switch r.Command {
	case "transaction.answer":
		t.answer = states[r.State]
		return true, nil
	case "transaction.checks":
		return append([]map[string]any{}, t.checks...), nil
	}
	return nil, fmt.Errorf("unknown command %q", r.Command)
}

func (d *driver) startTransactions(r request) (any, error) {
	t := &transactions{answer: primitive.UnknowState}
	p, err := rocketmq.NewTransactionProducer(t,
		producer.WithNameServer(primitive.NamesrvAddr{r.Namesrv}),
		producer.WithGroupName(r.Group),
		producer.WithInstanceName(r.Name),
		producer.WithSendMsgTimeout(5*time.Second))
	if err != nil {
		return nil, err
	}
	if err := p.Start(); err != nil {
		return nil, err
	}
	t.producer = p
	d.transactions[r.Name] = t
	return true, nil
}

// sendInTransaction holds no lock: the broker may ask about one message while another is sent.
func (d *driver) sendInTransaction(r request) (any, error) {
	results := []map[string]any{}
	for _, m := range r.Messages {
		result, err := d.transactions[r.Name].producer.SendMessageInTransaction(context.Background(), m.build(r.Topic))
		if err != nil {
			return nil, err
		}
		described := describe(result.SendResult)
		described["transaction_id"] = result.TransactionID
		results = append(results, described)
	}
	return results, nil
}

func (d *driver) stopTransactions(r request) (any, error) {
	t := d.transactions[r.Name]
	delete(d.transactions, r.Name)
	return true, t.producer.Shutdown()
}

func (d *driver) request(r request) (any, error) {
	reply, err := d.producers[r.Name].Request(context.Background(), requestTimeout, r.Messages[0].build(r.Topic))
	if err != nil {
		return nil, err
	}
	return map[string]any{"body": string(reply.Body), "properties": reply.GetProperties()}, nil
}
