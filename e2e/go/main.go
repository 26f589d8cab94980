// Apache's Go client at the command of a test: one JSON object a line on stdin, one answer a line on stdout.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/apache/rocketmq-client-go/v2"
	"github.com/apache/rocketmq-client-go/v2/consumer"
	"github.com/apache/rocketmq-client-go/v2/primitive"
	"github.com/apache/rocketmq-client-go/v2/producer"
	"github.com/apache/rocketmq-client-go/v2/rlog"
)

const (
	lineSizeMax      = 64 << 20
	callbackTimeout  = 20 * time.Second
	bodySizeShownMax = 2048
)

type message struct {
	Body       *string           `json:"body"`
	BodySize   int               `json:"body_size"`
	Tag        string            `json:"tag"`
	Keys       string            `json:"keys"`
	DelayLevel int               `json:"delay_level"`
	Shard      string            `json:"shard"`
	Properties map[string]string `json:"properties"`
}

type subscription struct {
	Topic      string `json:"topic"`
	Expression string `json:"expression"`
	SQL        string `json:"sql"`
}

type request struct {
	Command       string         `json:"command"`
	Name          string         `json:"name"`
	Group         string         `json:"group"`
	Namesrv       string         `json:"namesrv"`
	Topic         string         `json:"topic"`
	Mode          string         `json:"mode"`
	Messages      []message      `json:"messages"`
	Subscriptions []subscription `json:"subscriptions"`
	Orderly       bool           `json:"orderly"`
	Broadcast     bool           `json:"broadcast"`
	FailTimes     int            `json:"fail_times"`
	State         string         `json:"state"`
}

type pushConsumer struct {
	push     rocketmq.PushConsumer
	mutex    sync.Mutex
	received []map[string]any
	failures map[string]int
}

type driver struct {
	producers    map[string]rocketmq.Producer
	consumers    map[string]*pushConsumer
	transactions map[string]*transactions
}

func main() {
	rlog.SetLogLevel("error")
	d := driver{map[string]rocketmq.Producer{}, map[string]*pushConsumer{}, map[string]*transactions{}}
	lines := bufio.NewScanner(os.Stdin)
	lines.Buffer(make([]byte, 1<<16), lineSizeMax)
	answers := json.NewEncoder(os.Stdout)
	for lines.Scan() {
		var r request
		answer := map[string]any{}
		err := json.Unmarshal(lines.Bytes(), &r)
		if err == nil {
			answer["result"], err = d.run(r)
		}
		if err != nil {
			answer = map[string]any{"error": err.Error(), "code": nil}
		}
		if err := answers.Encode(answer); err != nil {
			os.Exit(1)
		}
	}
}

func (d *driver) run(r request) (any, error) {
	switch r.Command {
	case "ping":
		return "pong", nil
	case "producer.start":
		return d.startProducer(r)
	case "producer.send":
		return d.send(r)
	case "producer.request":
		return d.request(r)
	case "producer.running":
		return d.producers[r.Name] != nil, nil
	case "producer.stop":
		p := d.producers[r.Name]
		delete(d.producers, r.Name)
		return true, p.Shutdown()
	case "consumer.start":
		return d.startConsumer(r)
	case "consumer.received":
		c := d.consumers[r.Name]
		c.mutex.Lock()
		defer c.mutex.Unlock()
		return append([]map[string]any{}, c.received...), nil
	case "consumer.running":
		return d.consumers[r.Name] != nil, nil
	case "consumer.stop":
		c := d.consumers[r.Name]
		delete(d.consumers, r.Name)
		return true, c.push.Shutdown()
	case "transaction.send":
		return d.sendInTransaction(r)
	case "transaction.stop":
		return d.stopTransactions(r)
	}
	if strings.HasPrefix(r.Command, "transaction.") {
		return d.runTransaction(r)
	}
	return nil, fmt.Errorf("unknown command %q", r.Command)
}

func (d *driver) startProducer(r request) (any, error) {
	p, err := rocketmq.NewProducer(
		producer.WithNameServer(primitive.NamesrvAddr{r.Namesrv}),
		producer.WithGroupName(r.Group),
		producer.WithInstanceName(r.Name),
		producer.WithSendMsgTimeout(5*time.Second),
		// Messages without a sharding key go to any queue.
		producer.WithQueueSelector(producer.NewHashQueueSelector()),
		producer.WithRetry(2))
	if err != nil {
		return nil, err
	}
	if err := p.Start(); err != nil {
		return nil, err
	}
	d.producers[r.Name] = p
	return true, nil
}

func (m message) build(topic string) *primitive.Message {
	body := make([]byte, m.BodySize)
	for i := range body {
		body[i] = byte('a' + i%23)
	}
	if m.Body != nil {
		body = []byte(*m.Body)
	}
	out := primitive.NewMessage(topic, body)
	if m.Tag != "" {
		out.WithTag(m.Tag)
	}
	if m.Keys != "" {
		out.WithKeys([]string{m.Keys})
	}
	if m.DelayLevel > 0 {
		out.WithDelayTimeLevel(m.DelayLevel)
	}
	if m.Shard != "" {
		out.WithShardingKey(m.Shard)
	}
	for name, value := range m.Properties {
		out.WithProperty(name, value)
	}
	return out
}

func describe(result *primitive.SendResult) map[string]any {
	return map[string]any{
		"status":            map[primitive.SendStatus]string{primitive.SendOK: "SEND_OK"}[result.Status],
		"message_id":        result.MsgID,
		"offset_message_id": result.OffsetMsgID,
		"broker_name":       result.MessageQueue.BrokerName,
		"queue_id":          result.MessageQueue.QueueId,
		"queue_offset":      result.QueueOffset,
	}
}

func (d *driver) send(r request) (any, error) {
	p := d.producers[r.Name]
	if p == nil {
		return nil, fmt.Errorf("no producer named %q", r.Name)
	}
	var messages []*primitive.Message
	for _, m := range r.Messages {
		messages = append(messages, m.build(r.Topic))
	}
	results := []map[string]any{}
	ctx := context.Background()
	switch r.Mode {
	case "", "sync":
		for _, m := range messages {
			result, err := p.SendSync(ctx, m)
			if err != nil {
				return nil, err
			}
			results = append(results, describe(result))
		}
	case "batch":
		result, err := p.SendSync(ctx, messages...)
		if err != nil {
			return nil, err
		}
		results = append(results, describe(result))
	case "oneway":
		for _, m := range messages {
			if err := p.SendOneWay(ctx, m); err != nil {
				return nil, err
			}
		}
	case "async":
		type outcome struct {
			result *primitive.SendResult
			err    error
		}
		done := make(chan outcome, len(messages))
		for _, m := range messages {
			if err := p.SendAsync(ctx, func(_ context.Context, result *primitive.SendResult, err error) { done <- outcome{result, err} }, m); err != nil {
				return nil, err
			}
		}
		for range messages {
			select {
			case o := <-done:
				if o.err != nil {
					return nil, o.err
				}
				results = append(results, describe(o.result))
			case <-time.After(callbackTimeout):
				return nil, errors.New("a callback is missing")
			}
		}
	default:
		return nil, fmt.Errorf("unknown mode %q", r.Mode)
	}
	return results, nil
}

func (d *driver) startConsumer(r request) (any, error) {
	model := consumer.Clustering
	if r.Broadcast {
		model = consumer.BroadCasting
	}
	push, err := rocketmq.NewPushConsumer(
		consumer.WithNameServer(primitive.NamesrvAddr{r.Namesrv}),
		consumer.WithGroupName(r.Group),
		consumer.WithInstance(r.Name),
		consumer.WithConsumerModel(model),
		consumer.WithConsumerOrder(r.Orderly),
		consumer.WithConsumeFromWhere(consumer.ConsumeFromFirstOffset))
	if err != nil {
		return nil, err
	}
	c := &pushConsumer{push: push, failures: map[string]int{}}
	for _, s := range r.Subscriptions {
		expression := s.Expression
		if expression == "" {
			expression = "*"
		}
		selector := consumer.MessageSelector{Type: consumer.TAG, Expression: expression}
		if s.SQL != "" {
			selector = consumer.MessageSelector{Type: consumer.SQL92, Expression: s.SQL}
		}
		err := push.Subscribe(s.Topic, selector, func(_ context.Context, messages ...*primitive.MessageExt) (consumer.ConsumeResult, error) {
			failure := consumer.ConsumeRetryLater
			if r.Orderly {
				failure = consumer.SuspendCurrentQueueAMoment
			}
			return c.take(messages, r.FailTimes, failure), nil
		})
		if err != nil {
			return nil, err
		}
	}
	if err := push.Start(); err != nil {
		return nil, err
	}
	d.consumers[r.Name] = c
	return true, nil
}

func (c *pushConsumer) take(messages []*primitive.MessageExt, failTimes int, failure consumer.ConsumeResult) consumer.ConsumeResult {
	c.mutex.Lock()
	defer c.mutex.Unlock()
	outcome := consumer.ConsumeSuccess
	for _, m := range messages {
		seen := map[string]any{
			"topic":             m.Topic,
			"queue_id":          m.Queue.QueueId,
			"queue_offset":      m.QueueOffset,
			"physical_offset":   m.CommitLogOffset,
			"message_id":        m.MsgId,
			"offset_message_id": m.OffsetMsgId,
			"reconsume_times":   m.ReconsumeTimes,
			"tags":              m.GetTags(),
			"keys":              m.GetKeys(),
			"properties":        m.GetProperties(),
			"store_host":        m.StoreHost,
			"body_size":         len(m.Body),
			"body_crc32":        crc32.ChecksumIEEE(m.Body),
		}
		if len(m.Body) <= bodySizeShownMax {
			seen["body"] = string(m.Body)
		}
		c.received = append(c.received, seen)
		c.failures[m.MsgId]++
		if c.failures[m.MsgId] <= failTimes {
			outcome = failure
		}
	}
	return outcome
}
